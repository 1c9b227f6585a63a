"""A command with all that it starts, which can be killed at once as a power cut would."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_MARK = "TUNEFORGE_CRASHES"


class Tree:
    """A command at work in `folder`. What it starts is known by a variable that it inherits, in whatever session."""

    def __init__(self, command: Sequence[str], folder: Path, output: Path) -> None:
        self._mark = f"{_MARK}={os.urandom(8).hex()}"
        name, _, value = self._mark.partition("=")
        settings = {key: value for key, value in os.environ.items() if key != "TUNEFORGE_HOME"} | {name: value}
        self._began = time.monotonic()
        with output.open("w") as file:
            self._process = subprocess.Popen(
                command, cwd=folder, env=settings, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def seconds(self) -> float:
        """How long ago it began."""
        return time.monotonic() - self._began

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def pids(self) -> list[int]:
        """The command and all that it has started, as long as they live."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._owns(entry)]

    def kill(self, chance: random.Random) -> int:
        """kill -9 for all of them, in any order, and the number of those that were there."""
        killed: set[int] = set()
        while pids := self.pids():  # one may have been starting another
            chance.shuffle(pids)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            self._process.poll()
        self._process.wait()
        return len(killed)

    def _owns(self, entry: Path) -> bool:
        try:
            return self._mark.encode() in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or another person's
            return False
