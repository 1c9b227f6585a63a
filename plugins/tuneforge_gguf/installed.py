"""A llama.cpp that the person has installed: its own programs, by which nothing needs to be built."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

QUANTIZE, IMATRIX = "llama-quantize", "llama-imatrix"


def programs(folder: Path | None, *names: str) -> list[Path] | None:
    """Those programs in a folder, else on the PATH; None unless all are there."""
    path = str(folder) if folder is not None else os.environ.get("PATH", "")
    found = [shutil.which(name, path=path) for name in names]
    return [Path(each) for each in found if each] if all(found) else None


def missing(folder: Path, names: Sequence[str]) -> list[str]:
    """Which of the programs a folder lacks."""
    return [name for name in names if programs(folder, name) is None]
