"""What can be known of the machine before a plan is carried out."""

from __future__ import annotations

import os
import shutil

from .errors import Finding
from .plan import Plan


def preflight(plan: Plan) -> list[Finding]:
    """Findings on the home folder: that it can be written, and that there is room for what the plan will make."""
    home = plan.registry.home
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        fix = "Give another folder with --home or TUNEFORGE_HOME."
        return [Finding(f"the registry cannot be written: {there}", fix, place=str(home))]
    wanted = sum(
        sum(tensor.bytes for tensor in step.result.facts.tensors.values())
        for step in plan.steps.values()
        if step.status == "run" and step.result
    )
    free = shutil.disk_usage(there).free
    if wanted > free:
        problem = f"the steps to run will write about {wanted / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free"
        return [Finding(problem, "Free space, or give another folder with --home.", place=str(home))]
    return []


def threads_for(option: int | None) -> int:
    """Threads of a step: as asked for, else half the processors, since two threads that share a core gain nothing."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return option or max(1, allowed // 2)
