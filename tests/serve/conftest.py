"""Commands that serve, and what they serve."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.chat.conftest import Ended, House

Open = Callable[..., "Serving"]


class Serving:
    """`tuneforge serve`, at work or at its end."""

    def __init__(self, house: House, *arguments: str, debug: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tuneforge.cli", *(["--debug"] if debug else []), "serve", *arguments],
            cwd=house.folder,
            env=house.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Where the tests themselves run in the background, an interrupt is ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.out, self.err = "", ""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_out, self._read_err)]
        for reader in self._readers:
            reader.start()

    def _read_out(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.out += line

    def _read_err(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.err += line

    @property
    def url(self) -> str:
        """The address, once clients may come."""
        end = time.monotonic() + 300
        while self.out.count("\n\n") < 3:
            assert self.process.poll() is None, self.err
            assert time.monotonic() < end, self.err
            time.sleep(0.02)
        return self.out.split(" at ")[1].split("/v1 ")[0]

    @property
    def commands(self) -> list[str]:
        """What it says to try."""
        return [line for line in self.out.splitlines()[1:] if line]

    def get(self, path: str = "/") -> str:
        with urlopen(self.url + path, timeout=60) as response:
            text: str = response.read().decode()
            return text

    def interrupt(self) -> Ended:
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> Ended:
        """Waits for the command to end."""
        code = self.process.wait(timeout=300)
        for reader in self._readers:
            reader.join()
        return Ended(code, self.out, self.err)


@pytest.fixture
def opened() -> Iterator[Open]:
    """Starts commands that are gone when the test is over."""
    started: list[Serving] = []

    def start(house: House, *arguments: str, debug: bool = False) -> Serving:
        port = () if "--port" in arguments else ("--port", "0")
        started.append(Serving(house, *arguments, *port, debug=debug))
        return started[-1]

    yield start
    for serving in started:
        serving.process.kill()
        serving.end()


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Birds, in a place where the plugin that serves them is installed."""
    folder = tmp_path_factory.mktemp("market")
    installed = folder / "installed"
    information = installed / "kiosks-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: kiosks\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[tuneforge]\nkiosks = kiosks\n")
    shutil.copyfile(Path(__file__).with_name("kiosks.py"), installed / "kiosks.py")
    house = House(folder, {"PYTHONPATH": str(installed), "PATH": os.defpath})
    for name in ("polly", "swan", "dodo", "hawk", "owl"):
        house.put(name, "bird", {"bird.txt": name})
    house.put("ring", "ring", {"bird.txt": "ring"}, house.registry.resolve("polly"))
    house.put("seeds", "chat-data", {"train-0.parquet": "", "data.json": "{}"})
    return house
