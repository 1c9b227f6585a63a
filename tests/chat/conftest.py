"""Registries with something to talk to, and commands and terminals to do it with."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

import pytest

from tuneforge_registry import Registry

ROOT = Path(__file__).parents[2]
_COMMAND = [sys.executable, "-m", "tuneforge.cli"]
_STEERING = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>])|\r")
_SPINNER = re.compile("[\u2800-\u28ff][^\n]*\n")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class House:
    """A registry and a folder to work in."""

    folder: Path
    settings: dict[str, str]

    @property
    def registry(self) -> Registry:
        return Registry(self.folder / "home")

    def put(self, name: str, kind: str, files: dict[str, str], base: str | None = None) -> str:
        """Puts an artifact of small files into the registry under that name."""
        with self.registry.workspace() as workspace:
            folder = workspace / "out"
            folder.mkdir()
            for path, text in files.items():
                (folder / path).write_text(text)
            return self.take(name, kind, folder, base)

    def take(self, name: str, kind: str, folder: Path, base: str | None = None) -> str:
        digest = self.registry.put(folder, kind, base)
        self.registry.tag(name, digest)
        return digest

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"TUNEFORGE_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1"} | self.settings

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`tuneforge chat`, with pipes for its input and output."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*_COMMAND, "chat", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def ask(self, question: str, *arguments: str) -> Ended:
        """`tuneforge chat`, with a question on its standard input."""
        process = self.start(*arguments)
        out, err = process.communicate(question, timeout=300)
        return Ended(process.returncode, out, err)

    def sit_down(self, *arguments: str, columns: int = 80) -> Terminal:
        """`tuneforge chat` in a terminal of its own."""
        return Terminal([*_COMMAND, "chat", *arguments], self.folder, self.environment, columns)


class Terminal:
    """A command in a terminal: what is typed, and what is to be seen."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], columns: int) -> None:
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:  # pragma: no cover
            os.chdir(folder)
            # Where the tests themselves run in the background, an interrupt is ignored, and that is inherited.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.execve(command[0], command, environment | {"TERM": "xterm-256color"})
        ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.raw = ""
        self._from = 0

    @property
    def seen(self) -> str:
        """All that was shown, without colours, movements of the cursor, and what turns while one waits."""
        return _SPINNER.sub("", _STEERING.sub("", self.raw))

    def read(self, text: str, seconds: float = 30) -> str:
        """Waits until the text is to be seen after what was waited for last, and gives what came until then."""
        end = time.monotonic() + seconds
        while (found := self.seen.find(text, self._from)) < 0:
            if not self._more(end - time.monotonic()):
                raise AssertionError(f"{text!r} is not to be seen after {self.seen[: self._from]!r}: {self.seen!r}")
        shown = self.seen[self._from : found]
        self._from = found + len(text)
        return shown

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def ask(self, line: str) -> str:
        """Types a line at the prompt, and gives what is shown until the next prompt."""
        self.type(f"{line}\r")
        self.read(f"{line}\n")
        return self.read("\n> ") if not line.startswith("/") else self.read("> ")

    def end(self) -> int:
        """Waits for the command to end, and gives its exit code."""
        while self._more(60):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(status)

    def _more(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(0, seconds))
        try:
            data = os.read(self._descriptor, 1 << 16) if ready else b""
        except OSError:  # the command has ended
            data = b""
        self.raw += data.decode(errors="replace")
        return bool(data)


def alive(*pids: int) -> list[int]:
    """Which of these processes are there and no zombies."""
    found = []
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            found.append(pid)
    return found


def eventually(true: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="session")
def aviary(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Birds, in a place where the plugin that knows how to talk to them is installed."""
    folder = tmp_path_factory.mktemp("aviary")
    installed = folder / "installed"
    information = installed / "parrots-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: parrots\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[tuneforge]\nparrots = parrots\n")
    shutil.copyfile(Path(__file__).with_name("parrots.py"), installed / "parrots.py")
    house = House(folder, {"PYTHONPATH": str(installed)})
    for name in ("polly", "jack", "swan", "dodo"):
        house.put(name, "bird", {"bird.txt": name})
    house.put("egg", "egg", {"egg.txt": "speckled"})
    house.put("seeds", "chat-data", {"train-0.parquet": "", "data.json": "{}"})
    return house


@pytest.fixture
def sit_down(aviary: House) -> Iterator[Callable[..., Terminal]]:
    """Terminals that are gone when the test is over."""
    opened: list[Terminal] = []

    def sit(*arguments: str, columns: int = 80) -> Terminal:
        opened.append(aviary.sit_down(*arguments, columns=columns))
        return opened[-1]

    yield sit
    for terminal in opened:
        if alive(terminal.pid):
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
