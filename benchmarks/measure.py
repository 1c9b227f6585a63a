"""What commands take; in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

BIN = Path(sys.executable).parent

# Runs a command and prints what it took. A process of its own, for Linux counts what the one that starts a command has
# had in memory towards the command's peak.
_CLOCK = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, used = os.wait4(process.pid, 0)
wall = time.perf_counter() - began
process.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps([process.returncode, wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
"""


class Used(NamedTuple):
    """Seconds of wall time and of processors, and the most bytes that one process of a command had in memory."""

    wall: float
    cpu: float
    memory: int


def run(command: Sequence[str], cwd: Path | None, env: Mapping[str, str]) -> Used:
    """What a command takes, with these settings beside those of this process; SystemExit if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", _CLOCK, *command],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    code, *used = json.loads(done.stdout)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}: {done.stderr[-2000:]}")
    return Used(*used)


def least(rounds: Sequence[Used]) -> Used:
    """The least of each figure."""
    return Used(*(min(column) for column in zip(*rounds, strict=True)))


class Taken(NamedTuple):
    """Seconds of a command: median and least wall time, and the median of what the processors worked for it."""

    wall: float
    least: float
    cpu: float


def seconds(commands: Mapping[str, Sequence[str]], rounds: int, cwd: Path | None = None) -> dict[str, Taken]:
    """What each command takes over interleaved rounds; a first round warms the disk cache, bytecode included."""
    seen: dict[str, list[Used]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            used = run(command, cwd, {"PYTHONDONTWRITEBYTECODE": ""})
            seen[name] += [used] if turn else []
    return {
        name: Taken(statistics.median(walls), min(walls), statistics.median(works))
        for name, (walls, works, _) in ((name, zip(*used, strict=True)) for name, used in seen.items())
    }


def report(title: str, times: Mapping[str, Taken], budgets: Mapping[str, float]) -> None:
    """A table in seconds; `budgets` of wall time, with the share of it that the median takes."""
    print(f"\n{title:54} {'wall':>7} {'least':>7} {'cpu':>7} {'budget':>7}")
    for name, taken in times.items():
        share = f" {budgets[name]:7.2f} {taken.wall / budgets[name]:5.0%}" if name in budgets else ""
        print(f"  {name:52} {taken.wall:7.3f} {taken.least:7.3f} {taken.cpu:7.3f}{share}")
