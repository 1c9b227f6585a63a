"""One LoRA fine-tuning carried out by tuneforge, by a plain TRL script, and by the tools that people use for it."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from .job import Job, write
from .tools import TOOLS, NotInstalledError

_ROUNDS = 5
_CLOCK = Path(__file__).with_name("clock")
_SAME = ("threads", "trained", "dtypes", "micro_batch", "accumulation", "optimizer", "attention", "checkpointing")


def main() -> None:
    """Five interleaved rounds; what counts is the ratio to the script, as all share what else the machine does."""
    with tempfile.TemporaryDirectory() as name:
        job = Job(Path(name))
        write(job)
        commands: dict[str, list[str]] = {}
        seen: dict[str, list[dict[str, Any]]] = {}
        for tool, prepare in TOOLS.items():
            try:
                commands[tool] = prepare(job)
            except NotInstalledError as error:
                print(f"{tool} is left out, it could not be installed: {error}")
        for turn in range(_ROUNDS + 1):  # the first one warms the disk cache, bytecode included
            for tool, command in commands.items():
                found = _carry_out(command, job)
                seen[tool] = [*seen.get(tool, []), found][-_ROUNDS if turn else -1 :]
    _report(seen)


def _carry_out(command: Sequence[str], job: Job) -> dict[str, Any]:
    """What the clock saw of one training, and when the command was given."""
    shutil.rmtree(job.folder / "scratch", ignore_errors=True)
    path = job.folder / "clock.json"
    path.unlink(missing_ok=True)
    settings = os.environ | {
        "TRAINING_CLOCK": str(path),
        "PYTHONPATH": str(_CLOCK),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(job.folder / "scratch/hub"),
        "AXOLOTL_DO_NOT_TRACK": "1",
        "WANDB_DISABLED": "true",
    }
    settings.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.time()
    done = subprocess.run(command, cwd=job.folder, env=settings, capture_output=True, text=True)
    if done.returncode or not path.exists():
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if len(found["ends"]) != job.steps:
        raise SystemExit(f"{' '.join(command)} did {len(found['ends'])} steps of {job.steps}")
    return found | {"started": started}


def _report(seen: dict[str, list[dict[str, Any]]]) -> None:
    heads = "".join(f"{name:>9}" for name in ("step", "least", "most", "cpu"))
    print(f"\n{'training':18}{heads}{'of TRL':>8}{'cpu of TRL':>12}{'first':>9}{'later':>9}")
    plain, ours = seen["plain TRL script"], seen["tuneforge"][0]["losses"]
    for tool, rounds in seen.items():
        walls, works = ([_step(one[figure]) for one in rounds] for figure in ("ends", "works"))
        ratio, share = (_ratio(rounds, plain, figure) for figure in ("ends", "works"))
        firsts = [one["ends"][0] - one["started"] for one in rounds]
        later = statistics.median(a - (b["ends"][0] - b["started"]) for a, b in zip(firsts, plain, strict=True))
        times = (statistics.median(walls), min(walls), max(walls), statistics.median(works))
        print(
            f"  {tool:16}"
            + "".join(f"{1e3 * seconds:6.0f} ms" for seconds in times)
            + f"{ratio:8.2f}{share:12.2f}{statistics.median(firsts):7.1f} s{later:+7.1f} s"
        )
    for tool, rounds in seen.items():
        losses = rounds[0]["losses"]
        apart = max(abs(a - b) for a, b in zip(losses, ours, strict=True))
        told = ", ".join(f"{name} {version}" for name, version in rounds[0]["versions"].items())
        print(f"  {tool:16} loss {losses[0]:.4f} to {losses[-1]:.4f}, at most {apart:.1e} from ours; {told}")
    for tool, rounds in seen.items():
        print(f"  {tool:16} " + ", ".join(f"{name} {rounds[0][name]}" for name in _SAME))


def _ratio(rounds: list[dict[str, Any]], plain: list[dict[str, Any]], figure: str) -> float:
    """Of the script's time, round by round, so that what slows one round slows both parts of its ratio."""
    return statistics.median(
        _step(one[figure]) / _step(other[figure]) for one, other in zip(rounds, plain, strict=True)
    )


def _step(ends: Sequence[float]) -> float:
    """Seconds of a step, with all that the tool does until the next: logging, callbacks, the next rows."""
    return statistics.median(after - before for before, after in pairwise(ends))
