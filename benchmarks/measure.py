"""Commands timed in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

BIN = Path(sys.executable).parent


def seconds(commands: Mapping[str, Sequence[str]], rounds: int, cwd: Path | None = None) -> dict[str, float]:
    """The median wall time of each command over interleaved rounds; a first round warms the disk cache."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd, env=settings
            )
            if turn:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def report(title: str, times: Mapping[str, float], budgets: Mapping[str, float]) -> None:
    """A table: seconds, the ratio to the first row, and the budget where there is one."""
    print(f"\n{title}")
    first = next(iter(times.values()))
    for name, taken in times.items():
        budget = f"   budget {budgets[name]:.2f} s" if name in budgets else ""
        print(f"  {name:52} {taken:8.3f} s   {taken / first:6.2f}x{budget}")
