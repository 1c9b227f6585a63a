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
from pathlib import Path
from typing import Any

from .job import Job, write
from .tools import TOOLS, NotInstalledError

_ROUNDS = 5
_CLOCK = Path(__file__).with_name("clock")
_SAME = ("threads", "trained", "dtypes", "micro_batch", "accumulation", "optimizer", "attention", "checkpointing")


def main() -> None:
    """Five interleaved rounds: what counts is the ratio to the script, as all tools share what else the machine does."""
    with tempfile.TemporaryDirectory() as name:
        job = Job(Path(name))
        write(job)
        commands, seen = {}, {}
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
    medians = {tool: [_median_step(one) for one in rounds] for tool, rounds in seen.items()}
    firsts = {tool: [one["ends"][0] - one["started"] for one in rounds] for tool, rounds in seen.items()}
    plain = "plain TRL script"
    print(f"\n{'training':20} {'step':>8} {'least':>8} {'most':>8} {'of TRL':>7} {'first step':>11} {'later':>7}  losses")
    ours = seen["tuneforge"][0]["losses"]
    for tool, rounds in seen.items():
        steps = medians[tool]
        # Round by round, so that what slows one round slows both parts of its ratio.
        ratio = statistics.median(a / b for a, b in zip(steps, medians[plain], strict=True))
        later = statistics.median(a - b for a, b in zip(firsts[tool], firsts[plain], strict=True))
        losses = rounds[0]["losses"]
        apart = max(abs(a - b) for a, b in zip(losses, ours, strict=True))
        print(
            f"  {tool:18} {1e3 * statistics.median(steps):5.0f} ms {1e3 * min(steps):5.0f} ms {1e3 * max(steps):5.0f} ms"
            f" {ratio:7.2f} {statistics.median(firsts[tool]):9.2f} s {later:+5.2f} s"
            f"  {losses[0]:.4f} to {losses[-1]:.4f}, at most {apart:.1e} from ours"
        )
    for tool, rounds in seen.items():
        told = ", ".join(f"{name} {version}" for name, version in rounds[0]["versions"].items())
        print(f"  {tool:18} {told}; " + ", ".join(f"{name} {rounds[0][name]}" for name in _SAME))


def _median_step(found: dict[str, Any]) -> float:
    """Seconds of a step, with all that the tool does until the next: logging, callbacks, the next rows."""
    ends = found["ends"]
    return statistics.median(after - before for before, after in zip(ends, ends[1:], strict=False))
