"""What is written down of where a run took place, and is no part of any key."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from .environments import Environment


def packages(environment: Environment) -> dict[str, str]:
    """The version of every package of an environment, by name."""
    if environment.lock is None:
        return {found.name: found.version for found in distributions() if found.name}
    pins = (line.split(";")[0].split() for line in environment.lock.read_text(encoding="utf-8").splitlines())
    return dict(pin[0].split("==") for pin in pins if pin and "==" in pin[0])


def machine() -> dict[str, Any]:
    """The machine, as far as it may matter for a result."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "interpreter": sys.implementation.name,
    }


def checkout(folder: Path) -> dict[str, Any] | None:
    """Commit and state of the checkout that the recipe lies in; None outside of one."""
    if shutil.which("git") is None:
        return None
    asked = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        return None
    commit, _, dirty = asked.stdout.strip().partition("-")
    return {"commit": commit, "dirty": bool(dirty)}
