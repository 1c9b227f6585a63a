"""A released folder: written beside its place, swapped in whole, recognised and checked by its SHA256SUMS."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypedDict

from tuneforge import StepError
from tuneforge.disk import persist, persist_name

SUMS = "SHA256SUMS"
OWN = ("README.md", "lineage.json", SUMS)
"""What a release writes itself: such files of an artifact at its top make room."""

_CHUNK = 1 << 20
_SMALL = 1 << 24  # bytes; a file that a person edits is smaller
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


class File(TypedDict):
    sha256: str
    size: int


class Draft:
    """A release being written. `files` tells every file by its path within the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, File] = {}

    def copy(self, source: Path, path: str) -> None:
        """Adds a file of the person's own: neither a link into the registry nor read-only, as files there are."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with source.open("rb") as there, target.open("xb") as here:
            for chunk in _chunks(there):
                digest.update(chunk)
                here.write(chunk)
        self.files[path] = {"sha256": digest.hexdigest(), "size": target.stat().st_size}

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        content = text.encode()
        target.write_bytes(content)
        self.files[path] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}

    def sum_up(self) -> None:
        """Adds SHA256SUMS, when everything else is there."""
        self.write(SUMS, "".join(f"{file['sha256']}  {path}\n" for path, file in sorted(self.files.items())))


@contextmanager
def written(to: Path) -> Iterator[Draft]:
    """A draft that becomes the folder `to` when the block ends well; otherwise `to` stays as it was.

    Raises StepError when there is no writing to `to`, or when it holds what no release put there.
    """
    _refuse(_no_place(to))
    to = to.resolve()
    draft, earlier, lock = (to.with_name(f".{to.name}.tuneforge-{what}") for what in ("draft", "earlier", "lock"))
    to.parent.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock

    with FileLock(lock):
        if earlier.exists() and not to.exists():
            earlier.rename(to)  # a swap in two steps was killed between them
        try:
            _refuse(obstacle(to))
            _remove(draft, earlier)
            draft.mkdir()
            release = Draft(draft)
            yield release
            release.sum_up()
            persist(draft)
            _refuse(obstacle(to))  # copying took its time: a person may have worked there meanwhile
            _swap(draft, to, earlier)
            persist_name(to)
            _remove(earlier)
        finally:
            _remove(draft)
            lock.unlink(missing_ok=True)  # whoever waits finds it gone and makes another: FileLock sees to that


def obstacle(to: Path) -> tuple[str, str] | None:
    """Why a release cannot be written to `to`, and what to do about it; None when it can."""
    problem = _no_place(to)
    if problem:
        return problem
    stranger = next(_strangers(to), None)
    if stranger is not None:
        return f"{to} holds {stranger.relative_to(to)}, which no release put there", "Name another folder, or empty it."
    sums = _listed(to)
    changed = next((path for path in sums if os.path.lexists(path) and not _is(path, sums[path], to)), None)
    if changed is not None:
        return f"{changed} was changed since it was released", "Move it away, or name another folder."
    return None


def unchanged(folder: Path, files: Mapping[str, File]) -> bool:
    """Whether every file is there with its content."""
    paths = {folder / path: file for path, file in files.items()}
    return all(path.is_file() and path.stat().st_size == file["size"] for path, file in paths.items()) and all(
        _is(path, file["sha256"], folder) for path, file in paths.items()
    )


def _refuse(problem: tuple[str, str] | None) -> None:
    if problem:
        raise StepError(*problem)


def _no_place(to: Path) -> tuple[str, str] | None:
    above = next(folder for folder in to.parents if os.access(folder, os.F_OK))
    if not above.is_dir():
        return f"{above} is a file, so there can be no {to}", "Name a folder elsewhere."
    if not os.access(above, os.W_OK | os.X_OK):
        return f"{above} cannot be written to", "Name a folder elsewhere, or have its permissions changed."
    if to.exists() and not to.is_dir():
        return f"{to} is a file", "Name a folder."
    return None


def _strangers(folder: Path) -> Iterator[Path]:
    listed = {folder / SUMS, *_listed(folder)}
    own = listed if {folder / name for name in OWN} <= listed else set()
    return (path for path in folder.rglob("*") if path not in own and not (path.is_dir() and not path.is_symlink()))


def _listed(folder: Path) -> dict[Path, str]:
    """The sha256 of every file of the release that `folder` is, as its SHA256SUMS tells."""
    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
    return {folder / line[66:]: line[:64] for line in lines}  # 64 digits, two spaces, the path


def _is(path: Path, sha256: str, folder: Path) -> bool:
    """Whether a file of the release in `folder` has that content.

    Weights are read only if they were touched since SHA256SUMS, the last file of all, was written: every plan asks.
    """
    if not path.is_file():
        return False
    sums = folder / SUMS
    untouched = sums.is_file() and path.lstat().st_ctime_ns < sums.stat().st_mtime_ns
    return (untouched and path.stat().st_size > _SMALL) or _digest(path) == sha256


def _swap(draft: Path, to: Path, earlier: Path) -> None:
    if not to.exists() or not any(to.iterdir()):
        draft.rename(to)
    elif not _exchange(draft, to):
        to.rename(earlier)
        try:
            draft.rename(to)
        except OSError:
            earlier.rename(to)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one system call, where system and filesystem can: then there is no moment without one."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk
