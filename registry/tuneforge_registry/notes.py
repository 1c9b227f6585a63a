"""What is said of a version of a name: tags and a note, which may change. `_v3.json` beside `v3` has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneforge_registry import files
from tuneforge_registry.errors import RegistryError

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=/+-]{0,199}")
_FILE = re.compile(r"_v([1-9][0-9]*)\.json")  # no name in a namespace begins so
_LONGEST = 10_000  # characters of a note


@dataclass(frozen=True)
class About:
    """The tags of a version, sorted, and its note."""

    tags: tuple[str, ...] = ()
    note: str = ""


def check(tags: Iterable[str], note: str | None) -> None:
    """RegistryError for what cannot be a tag or a note."""
    for tag in tags:
        if not _TAG.fullmatch(tag):
            fix = "use letters, digits and . _ : = / + -, a letter or digit first"
            raise RegistryError(f"{tag!r} cannot be a tag", fix)
    if note and (len(note) > _LONGEST or not all(line.isprintable() for line in note.splitlines())):
        raise RegistryError("the note is no plain text, or too long", f"at most {_LONGEST} characters, in lines")


def is_file(entry: str) -> bool:
    return _FILE.fullmatch(entry) is not None


def path(folder: Path, version: int) -> Path:
    return folder / f"_v{version}.json"


def write(home: Path, folder: Path, version: int, about: About) -> None:
    """Replace what is said of a version; with nothing to say there is no file."""
    if about == About():
        path(folder, version).unlink(missing_ok=True)
        return
    files.replace(home, path(folder, version), json.dumps(document(about), ensure_ascii=False, indent=1) + "\n")


def document(about: About) -> dict[str, Any]:
    """As JSON, here and in an export."""
    return {"note": about.note, "tags": list(about.tags)}


def read(folder: Path, entries: Iterable[str]) -> dict[int, About]:
    """What is said of each version with a file among the `entries` of a name's folder. A damaged one says nothing."""
    found = ((int(match[1]), load(folder / entry)) for entry in entries if (match := _FILE.fullmatch(entry)))
    return {version: about for version, about in sorted(found) if about is not None}


def load(file: Path) -> About | None:
    """What one file says; None if it is damaged or gone."""
    try:
        said = json.loads(file.read_bytes())
        return About(tuple(str(tag) for tag in said["tags"]), str(said["note"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
