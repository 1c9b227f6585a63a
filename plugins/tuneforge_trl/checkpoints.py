"""Checkpoints that can be trusted: marked when they are whole, compared with their mark before they are used."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tuneforge.disk import persist, persist_name

FINISHED = "finished.json"
"""Written last into a checkpoint: the sha256 of each of its files. A checkpoint that is anything else is not used."""

_KEPT = 2  # the newest, and the one before it should the newest prove damaged


def finish(checkpoint: Path) -> None:
    """Marks a checkpoint as finished, once all of it is on disk; only then do old ones make room."""
    digests = {path.relative_to(checkpoint).as_posix(): _digest(path) for path in _files(checkpoint)}
    mark = checkpoint / f"{FINISHED}.new"
    mark.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    persist(checkpoint.parent)
    mark.rename(checkpoint / FINISHED)
    persist_name(checkpoint / FINISHED)
    for old in _newest_first(checkpoint.parent)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)  # what cannot be removed now is tried again with the next


def newest(folder: Path, log: Callable[[str], None]) -> Path | None:
    """The newest checkpoint in `folder` that is whole. Newer ones are told of and removed: they would be in the way."""
    found = _newest_first(folder)
    for checkpoint in found:
        flaw = _flaw(checkpoint)
        if not flaw:
            return checkpoint
        log(f"{checkpoint.name} is not used: {flaw}")
        shutil.rmtree(checkpoint)
    if found:
        log("there is no whole checkpoint: beginning anew")
    return None


def steps(checkpoint: Path) -> int:
    """How many steps were done when it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=steps, reverse=True)


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def _flaw(checkpoint: Path) -> str:
    """Why a checkpoint cannot be used; empty if it is what its mark says."""
    mark = checkpoint / FINISHED
    if not mark.exists():
        return "it is half-written"
    try:
        digests = dict(json.loads(mark.read_bytes()))
    except (ValueError, TypeError):
        return f"its {FINISHED} cannot be read"
    for name, digest in digests.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is gone"
        if _digest(path) != digest:
            return f"{name} is not what was written"
    return "" if digests else f"its {FINISHED} is empty"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
