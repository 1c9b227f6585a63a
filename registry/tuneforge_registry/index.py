"""The SQLite index over manifests and run records: derived, brought up to date by every question, never needed.

Writers do not know of it. A question first compares the stamps of all files with those in the index and reads what is
new, so that it is right whatever happened since, and a missing, damaged or outdated index is simply built.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tuneforge_registry import filesystems, manifests, runs
from tuneforge_registry.errors import RegistryError

_VERSION = 1  # raised with every change of the tables
_TABLES = """
create table files (path text primary key, stamp text not null);
create table artifacts (
    path text not null references files on delete cascade,
    digest text primary key, kind text not null, base text, size integer not null, created real not null);
create table made (
    path text not null references files on delete cascade,
    digest text not null, run text not null, step text not null, started text not null, cached integer not null);
create index artifacts_by_path on artifacts (path);
create index made_by_path on made (path);
create index made_by_digest on made (digest);
"""
Answer = TypeVar("Answer")
_BROKEN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


def ask(home: Path, question: Callable[[sqlite3.Connection], Answer]) -> Answer:
    """What `question` finds in an index that is up to date with the files; asked again if the index proves broken.

    On a full disk the index is made in memory, as where nothing can be written.
    """
    try:
        return _ask(home, question, _location(home))
    except _OutdatedError:
        pass
    except sqlite3.DatabaseError as error:
        # An error that Python raises of its own has no code: text that is not UTF-8.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _NO_ROOM:
            return _ask(home, question, None)
        if code not in _BROKEN:
            raise
    discard(home)
    return _ask(home, question, _location(home))


class _OutdatedError(Exception):
    """The index was made by another version of this module."""


def discard(home: Path) -> None:
    """Remove the index, journal first: left alone, it would be rolled back into the next index."""
    path = _location(home)
    if path is None:
        return
    with _lock(home):
        for each in (path.with_name(f"{path.name}-journal"), path):
            each.unlink(missing_ok=True)


def _location(home: Path) -> Path | None:
    """Where the index lies; None if nothing can be written there, so that it is made in memory.

    SQLite needs locks that network filesystems are known to break: of a home on one, the index is this user's and this
    machine's own.
    """
    if not filesystems.is_network(home):
        return home / "index.sqlite" if os.access(home, os.W_OK) else None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuneforge"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    path = cache / f"index-{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]}.sqlite"
    return path if os.access(cache, os.W_OK) else None


def _lock(home: Path) -> contextlib.AbstractContextManager[Any]:
    path = _location(home)
    if path is None:
        return contextlib.nullcontext()
    from tuneforge_registry import locks

    return locks.lock(home, locks.INDEX) if path.parent == home else locks.at(path.with_suffix(".lock"))


def _ask(home: Path, question: Callable[[sqlite3.Connection], Answer], path: Path | None) -> Answer:
    with contextlib.closing(sqlite3.connect(path or ":memory:", timeout=60, isolation_level=None)) as connection:
        connection.execute("pragma foreign_keys = on")
        changed = _changes(home, connection)
        if changed is None or changed:
            with _lock(home):
                _update(home, connection)
        return question(connection)


def _update(home: Path, connection: sqlite3.Connection) -> None:
    connection.execute("begin immediate")
    try:
        changed = _changes(home, connection)
        if changed is None:
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"pragma user_version = {_VERSION}")
            changed = _changes(home, connection) or {}
        for path, stamp in changed.items():
            connection.execute("delete from files where path = ?", (path,))
            if stamp is not None:
                connection.execute("insert into files values (?, ?)", (path, stamp))
                _read(home, path, connection)
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
    connection.execute("commit")


def _changes(home: Path, connection: sqlite3.Connection) -> dict[str, str | None] | None:
    """The stamps of files that the index does not have so, None for one that is gone; None if there are no tables."""
    (version,) = connection.execute("pragma user_version").fetchone()
    if version != _VERSION:
        if version:
            raise _OutdatedError
        return None
    known: dict[str, str] = dict(connection.execute("select path, stamp from files"))
    present = _stamps(home)
    changed: dict[str, str | None] = {path: stamp for path, stamp in present.items() if known.get(path) != stamp}
    return changed | dict.fromkeys(known.keys() - present.keys())


def _stamps(home: Path) -> dict[str, str]:
    found = {}
    for folder in ("manifests", "runs"):
        with contextlib.suppress(FileNotFoundError), os.scandir(home / folder) as entries:
            for entry in entries:
                if entry.name.endswith(".json"):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat()
                        found[f"{folder}/{entry.name}"] = f"{status.st_mtime_ns} {status.st_ino} {status.st_size}"
    return found


def _read(home: Path, path: str, connection: sqlite3.Connection) -> None:
    folder, _, name = path.partition("/")
    stem = name.removesuffix(".json")
    try:
        if folder == "manifests":
            manifest = manifests.read(home, stem)
            created = (home / path).stat().st_mtime
            row = (path, stem, manifest.kind, manifest.base, manifest.size, created)
            connection.execute("insert into artifacts values (?, ?, ?, ?, ?, ?)", row)
        else:
            record = runs.read(home, stem)
            for step in runs.steps(record):
                cached = step.get("status") == "cached"
                made = (path, step["digest"], stem, str(step.get("name")), runs.started(record), cached)
                connection.execute("insert into made values (?, ?, ?, ?, ?, ?)", made)
    except (RegistryError, FileNotFoundError):
        return  # damaged, which `verify` reports, or gone by now
