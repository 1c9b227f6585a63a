"""Commands timed in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

BIN = Path(sys.executable).parent


class Taken(NamedTuple):
    """Seconds of a command: median and least wall time, and the median of what the processors worked for it."""

    wall: float
    least: float
    cpu: float


def seconds(commands: Mapping[str, Sequence[str]], rounds: int, cwd: Path | None = None) -> dict[str, Taken]:
    """What each command takes over interleaved rounds; a first round warms the disk cache, bytecode included."""
    walls: dict[str, list[float]] = {name: [] for name in commands}
    works: dict[str, list[float]] = {name: [] for name in commands}
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    settings.pop("PYTHONDONTWRITEBYTECODE", None)
    for turn in range(rounds + 1):
        for name, command in commands.items():
            before, started = _work(), time.perf_counter()
            subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd, env=settings
            )
            if turn:
                walls[name].append(time.perf_counter() - started)
                works[name].append(_work() - before)
    return {
        name: Taken(statistics.median(walls[name]), min(walls[name]), statistics.median(works[name]))
        for name in commands
    }


def _work() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(title: str, times: Mapping[str, Taken], budgets: Mapping[str, float]) -> None:
    """A table in seconds; `budgets` of wall time, with the share of it that the median takes."""
    print(f"\n{title:54} {'wall':>7} {'least':>7} {'cpu':>7} {'budget':>7}")
    for name, taken in times.items():
        share = f" {budgets[name]:7.2f} {taken.wall / budgets[name]:5.0%}" if name in budgets else ""
        print(f"  {name:52} {taken.wall:7.3f} {taken.least:7.3f} {taken.cpu:7.3f}{share}")
