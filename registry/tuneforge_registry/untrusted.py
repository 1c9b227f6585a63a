"""What comes from elsewhere, an archive or an upload, is looked at before it is committed.

Plain functions over names, a file or a folder: they read what is there, run nothing of it, and refuse with a reason.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tuneforge_registry import files
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.manifests import check_path

_PART, _PATH = 255, 1000  # bytes: what filesystems allow of a name, and of a path with a folder before it
_UNUSABLE = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
_TOLD = 5


@dataclass(frozen=True)
class Refusal:
    """Why one file is not taken: its path in the artifact, what is wrong with it, and what to do."""

    path: str
    problem: str
    fix: str


def check_folder(folder: Path, allow_pickle: Collection[str] = ()) -> None:
    """RegistryError that tells of every file below `folder` which should not be taken; nothing if there is none.

    Links and devices are refused, and whatever `name_problems` and `content_problem` find. `allow_pickle` are the
    paths, relative to the folder, of files that may be pickles. Folders are not entered through links.
    """
    found: list[Refusal] = []
    paths = {path.relative_to(folder).as_posix(): path for path in files.walk(folder)}
    named = {refusal.path: refusal for refusal in name_problems(paths)}
    for path, file in paths.items():
        if path in named:
            found.append(named[path])
        elif file.is_symlink() or not file.is_file():
            what = "a link" if file.is_symlink() else "neither a file nor a folder"
            found.append(Refusal(path, f"is {what}", "put the file itself there"))
        elif refusal := content_problem(file, path, allow_pickle):
            found.append(refusal)
    refuse(found)


def check_file(file: Path, path: str, allow_pickle: Collection[str] = ()) -> None:
    """RegistryError if `file`, to be `path` in an artifact, should not be taken: for its name or for its content."""
    refuse([*name_problems([path])] or [found for found in [content_problem(file, path, allow_pickle)] if found])


def refuse(found: list[Refusal]) -> None:
    """RegistryError that tells of all that was found; nothing if nothing was."""
    if found:
        problems = [f"{refusal.path!r} {refusal.problem}" for refusal in found[:_TOLD]]
        more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise RegistryError("; ".join(problems) + more, "; ".join(dict.fromkeys(each.fix for each in found[:_TOLD])))


def name_problems(paths: Iterable[str]) -> Iterator[Refusal]:
    """The paths that leave their folder, that some system cannot hold, or that clash with another on some system."""
    taken: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        if problem := _name_problem(path):
            yield Refusal(path, problem, "rename the file")
            continue
        parts = path.split("/")
        clash = taken.get(_folded(path)) or folders.get(_folded(path))
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            # A folder written in two ways is one folder here and two there.
            first = folders.setdefault(_folded(above), above)
            clash = clash or taken.get(_folded(above)) or (first if first != above else None)
        if clash:
            same = clash == path or path.startswith(f"{clash}/")
            why = ", as nothing is a file and a folder" if same else " on systems that tell no case"
            yield Refusal(path, f"clashes with {clash!r}{why}", "rename one of them")
        taken.setdefault(_folded(path), path)


def _folded(path: str) -> str:
    """What two paths have in common that are one on a system that minds neither case nor composition of letters."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


def _name_problem(path: str) -> str | None:
    try:
        check_path(path)
    except RegistryError:
        return "is not a plain relative path" if path else "is no path"
    for part in path.split("/"):
        if _UNUSABLE.search(part) or part.endswith((".", " ")) or _DEVICE.fullmatch(part):
            return "has a name that not every system can hold"
        if not part.isprintable():
            return "has a name with signs that nobody sees"
        if len(part.encode()) > _PART:
            return f"has a name longer than {_PART} bytes"
        if part.casefold() == ".git":
            return "would be a repository of git, whose settings name programs"
    return f"is longer than {_PATH} bytes" if len(path.encode()) > _PATH else None


def content_problem(file: Path, path: str, allow_pickle: Collection[str] = ()) -> Refusal | None:
    """What is wrong with the content of `file`, which is to be `path` in an artifact; None if nothing is.

    A pickle is refused unless its path is in `allow_pickle`: to load it runs what it says. A safetensors file must be
    one from end to end.
    """
    from tuneforge_registry import pickles, tensors

    if path.lower().endswith(".safetensors") and (problem := tensors.problem(file)):
        return Refusal(path, problem, "download or export it again")
    if path not in allow_pickle and (what := pickles.found(file, path)):
        fix = f"save weights as safetensors; if you trust who made it, allow it by name: --allow-pickle {path}"
        return Refusal(path, f"is {what}, which runs code when it is loaded", fix)
    return None
