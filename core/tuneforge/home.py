"""Where the registry lives."""

from __future__ import annotations

import os
from pathlib import Path


def home_folder(option: Path | None) -> Path:
    """Where the registry lives: as asked for, else $TUNEFORGE_HOME, else .tuneforge in the working folder."""
    return (option or Path(os.environ.get("TUNEFORGE_HOME") or ".tuneforge")).absolute()
