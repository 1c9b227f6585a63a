"""File contents by sha256: taken from a finished folder, stored once, read-only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from tuneforge_registry import files, filesystems
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.manifests import FileEntry, check_path, is_digest


def location(home: Path, sha256: str) -> Path:
    return home / "blobs" / sha256[:2] / sha256


def holds(home: Path, entry: FileEntry) -> bool:
    """Whether the blob is there with the right size. Its bytes are `verify`'s business."""
    return _size(location(home, entry.sha256)) == entry.size


def stored(home: Path) -> Iterator[tuple[str, Path]]:
    """Every blob's sha256 and file."""
    for shelf in files.listing(home / "blobs"):
        folder = home / "blobs" / shelf
        for name in files.listing(folder):
            if is_digest(name) and name[:2] == shelf:
                yield name, folder / name


def survey(folder: Path) -> dict[str, Path]:
    """The files of `folder` by relative posix path, each with the file that holds its bytes.

    A link to a file inside the folder counts as that file. RegistryError for a folder without files, for any other
    link, and for what is neither file nor folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise RegistryError(f"{folder} is not a folder", "give the folder that a step has written")
    inside = folder.resolve()
    found: dict[str, Path] = {}
    for path in files.walk(folder):
        relative = path.relative_to(folder).as_posix()
        check_path(relative)
        real = path
        if path.is_symlink():
            real = path.resolve()
            if not (real.is_relative_to(inside) and real.is_file()):
                raise RegistryError(f"{path} is a link to {path.readlink()}", "put the file itself there")
        elif not path.is_file():
            raise RegistryError(f"{path} is neither a file nor a folder", "leave it out of the artifact")
        found[relative] = real
    if not found:
        raise RegistryError(f"{folder} holds no file", "an artifact holds at least one file")
    return found


def stage(source: Path, staging: Path) -> FileEntry:
    """Bring one file into `staging` under its sha256, read-only and on disk, without a second copy where links work.

    The source stays, so that a put that fails or dies can be tried again.
    """
    moved = staging / "moving"
    filesystems.link(source, moved)
    moved.chmod(0o444)
    with moved.open("rb") as file:
        entry = FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), file.tell())
        os.fsync(file.fileno())
    target = staging / entry.sha256
    if target.exists():  # a rename onto a link to the same file would leave both
        moved.unlink()
    else:
        moved.rename(target)
    return entry


def commit(home: Path, staging: Path) -> None:
    """Move what is staged among the blobs. One that lost bytes is replaced; any other that is there stays."""
    shelves = set()
    for staged in sorted(staging.iterdir()):
        blob = location(home, staged.name)
        if _size(blob) != staged.stat().st_size:
            files.make_folder(blob.parent)
            staged.replace(blob)
        shelves.add(blob.parent)
    for shelf in shelves:
        files.sync_folder(shelf)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
