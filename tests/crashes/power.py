"""What a power cut would leave of what was written: only what was synced, and only where its folder was synced too."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_watching: list[Disk] = []


class Disk:
    """Notes what is synced below `base`, a folder that is itself on disk.

    What was renamed too early is told by `hollow`, the files whose content was not on disk, and `unlisted`, what the
    renamed folder might not have held after a power cut.
    """

    def __init__(self, base: Path) -> None:
        self.hollow: list[Path] = []
        self.unlisted: list[Path] = []
        self._base = base
        self._contents: dict[int, bytes] = {}  # of files, by inode
        self._entries: dict[int, set[tuple[str, int]]] = {}  # of folders: names and inodes

    def sync(self, descriptor: int) -> None:
        """Stands in for `os.fsync`."""
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(descriptor) as entries:
                self._entries[status.st_ino] = {(entry.name, entry.inode()) for entry in entries}
        else:
            self._contents[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def may_be_lost(self, *roots: Path) -> list[Path]:
        """Of the roots and all below them, what a power cut may take or leave empty."""
        return [path for root in roots for path in _all(root) if not (self._written(path) and self._found(path))]

    def renamed(self, path: Path) -> None:
        if path.is_relative_to(self._base):
            self.hollow += [below for below in _all(path) if not self._written(below)]
            self.unlisted += [below for below in path.rglob("*") if not self._has_entry(below)]

    def _written(self, path: Path) -> bool:
        return path.is_dir() or self._contents.get(path.stat().st_ino) == path.read_bytes()

    def _found(self, path: Path) -> bool:
        return path == self._base or (self._has_entry(path) and self._found(path.parent))

    def _has_entry(self, path: Path) -> bool:
        return (path.name, path.lstat().st_ino) in self._entries.get(path.parent.stat().st_ino, ())


def _all(path: Path) -> list[Path]:
    return [path, *path.rglob("*")]


@contextmanager
def watched(patch: Any, base: Path) -> Iterator[Disk]:
    """The disk below `base`, noting what this process syncs and renames."""
    disk = Disk(base)
    patch.setattr(os, "fsync", disk.sync)
    _watching.append(disk)
    try:
        yield disk
    finally:
        _watching.remove(disk)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.rename":
        for disk in _watching:
            disk.renamed(Path(os.fsdecode(arguments[0])))


sys.addaudithook(_note)
