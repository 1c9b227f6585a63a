"""What has to outlive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def persist(path: Path) -> None:
    """Returns when a file, or a folder with all that is below it, is on disk, and so is its name in the folder above.

    To be called before whatever says that it is all there, a mark or a rename: those may reach the disk first.
    """
    for below, folders, files in os.walk(path):
        for name in (*files, *folders):
            _sync(Path(below, name))
    _sync(path)
    persist_name(path)


def persist_name(path: Path) -> None:
    """Returns when the name of a file or folder is on disk, as after a rename."""
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
