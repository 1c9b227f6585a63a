"""What a configuration points at, counted by content: digests of files and folders, each hashed once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path


class Digests:
    """sha256 of files and folders. A file is hashed once per size, mtime and inode; `cache` remembers between runs."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, list[int | str]] = {}
        self._new = False
        with contextlib.suppress(OSError, ValueError, TypeError):  # a cache that is gone or damaged only costs time
            self._known = dict(json.loads(cache.read_text(encoding="utf-8")))

    def of(self, path: Path) -> str:
        """The digest of a file, or of a folder: of the names and digests of its files. Raises OSError.

        Hidden files and bytecode in a folder do not count.
        """
        if not path.is_dir():
            return self._file(path)
        whole = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file() and not _aside(file.relative_to(path))):
            whole.update(f"{file.relative_to(path).as_posix()}\0{self._file(file)}\n".encode())
        return whole.hexdigest()

    def save(self) -> None:
        """Keeps what was hashed for the next time, where the cache's folder exists."""
        if not self._new or not self._cache.parent.is_dir():
            return
        beside = self._cache.with_name(f"{self._cache.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # who may only read the registry may still plan
            beside.write_text(json.dumps(self._known, sort_keys=True), encoding="utf-8")
            beside.replace(self._cache)

    def _file(self, path: Path) -> str:
        stat = path.stat()
        stamp: list[int | str] = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if isinstance(known, list) and known[:3] == stamp:
            return str(known[3])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[str(path)] = [*stamp, digest]
        self._new = True
        return digest


def _aside(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)
