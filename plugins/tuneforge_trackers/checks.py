"""What several trackers look at before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tuneforge import Finding


def writable(folder: Path, field: str) -> Iterator[Finding]:
    """A finding if nothing can be written into a folder, which may still have to be made."""
    there = next(above for above in (folder, *folder.parents) if above.exists())
    if not there.is_dir():
        yield Finding(f"{there} is no folder", "Name another folder.", field=field)
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Finding(f"{there} cannot be written", "Name another folder.", field=field)
