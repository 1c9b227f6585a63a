"""The SQLite index over manifests, run records and names: derived, brought up to date by every question, never needed.

Writers do not know of it. A question first compares the stamps of all folders with those in the index, and in those
that changed the stamps of all files, and reads what is new, so that it is right whatever happened since, and a missing,
damaged or outdated index is simply built. (What is damaged in place, after it was read, is `verify`'s business.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from tuneforge_registry import blobs, files, filesystems, manifests, refs, runs
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.notes import About

_VERSION = 2  # raised with every change of the tables
_TABLES = """
create table files (path text primary key, stamp text not null) without rowid;
create table artifacts (
    path text not null references files on delete cascade,
    digest text primary key, kind text not null, base text, size integer not null, created real not null);
create table made (
    path text not null references files on delete cascade,
    digest text not null, run text not null, step text not null, started text not null, cached integer not null);
create table uses (
    path text not null references files on delete cascade,
    digest text not null, source text not null);
create table words (
    path text not null references files on delete cascade,
    digest text not null, stage text not null, word text not null);
create table scores (
    path text not null references files on delete cascade,
    report text not null, subject text not null, metric text not null, value real not null, passed integer not null);
create table versions (
    path text not null references files on delete cascade,
    name text not null, number integer not null, digest text not null, named real not null,
    aliases text not null, tags text not null, note text not null);
create index artifacts_by_path on artifacts (path);
create index artifacts_by_created on artifacts (created desc, digest, kind, base, size);
create index made_by_path on made (path);
create index made_by_digest on made (digest);
create index uses_by_path on uses (path);
create index uses_by_source on uses (source);
create index words_by_path on words (path);
create index scores_by_path on scores (path);
create index scores_by_subject on scores (subject);
create index versions_by_path on versions (path);
create index versions_by_digest on versions (digest);
"""
_FRESH = 2.0
"""Seconds within which a folder may change twice and look the same: of so young a one, nothing is taken for known."""
_REPORT = "report.json"
"""The file by which an artifact judges others: its `scores` are by digest, then by metric; `passed` is the verdict."""
Answer = TypeVar("Answer")
_BROKEN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


def ask(home: Path, question: Callable[[sqlite3.Connection], Answer]) -> Answer:
    """What `question` finds in an index that is up to date with the files; asked again if the index proves broken.

    On a full disk the index is made in memory, as where nothing can be written.
    """
    if (held := _held.get()) is not None and held[0] == home:
        return question(held[1])
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


def ask_all(home: Path, questions: Callable[[], Answer]) -> Answer:
    """Like `ask`, of several questions that `questions` asks: the index is brought up to date once, before the first.

    They may all be asked a second time.
    """

    def hold(connection: sqlite3.Connection) -> Answer:
        token = _held.set((home, connection))
        try:
            return questions()
        finally:
            _held.reset(token)

    return ask(home, hold)


_held: ContextVar[tuple[Path, sqlite3.Connection] | None] = ContextVar("held", default=None)
"""What `ask_all` has open, for its own thread: no other may use a connection."""


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
                known = "" if path.startswith("refs/") and _is_fresh(stamp) else stamp
                connection.execute("insert into files values (?, ?)", (path, known))
                if "/" in path:
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
    changed: dict[str, str | None] = {}
    for folder in ("manifests", "runs"):
        changed |= _changes_in(home, folder, connection)
    known = _known(connection, "refs")
    present = _stamps_of_names(home, known)
    changed |= {path: stamp for path, stamp in present.items() if known.get(path) != stamp}
    return changed | dict.fromkeys(known.keys() - present.keys())


def _known(connection: sqlite3.Connection, folder: str) -> dict[str, str]:
    """The stamps that the index has of what is in a folder."""
    sql = "select path, stamp from files where path > ? and path < ?"
    return dict(connection.execute(sql, (f"{folder}/", f"{folder}0")).fetchall())  # 0 comes after /


def _changes_in(home: Path, folder: str, connection: sqlite3.Connection) -> dict[str, str | None]:
    """Of a folder into which files are renamed, so that one that looks as it did has the files that it had."""
    try:
        stamp = _stamp((home / folder).stat())
    except FileNotFoundError:
        return dict.fromkeys(_known(connection, folder))
    if connection.execute("select 1 from files where (path, stamp) = (?, ?)", (folder, stamp)).fetchone():
        return {}
    known, present = _known(connection, folder), dict[str, str]()
    with os.scandir(home / folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json"):
                with contextlib.suppress(FileNotFoundError):
                    present[f"{folder}/{entry.name}"] = _stamp(entry.stat())
    changed: dict[str, str | None] = {path: stamp for path, stamp in present.items() if known.get(path) != stamp}
    changed |= dict.fromkeys(known.keys() - present.keys())
    return changed if _is_fresh(stamp) else changed | {folder: stamp}


def _stamps_of_names(home: Path, known: Mapping[str, str]) -> dict[str, str]:
    """Of the folders of names. A namespace that has not changed has the same names in it, each to be looked at."""
    inside: dict[str, list[str]] = {}
    for path in known:
        if path.count("/") == 2:
            folder, _, name = path.rpartition("/")
            inside.setdefault(folder, []).append(name)
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(home / "refs") as entries:
        for entry in entries:
            folder = f"refs/{entry.name}"
            if entry.name.startswith(".") or not entry.is_dir():
                continue
            found[folder] = _stamp(entry.stat())
            if known.get(folder) != found[folder]:
                inside[folder] = refs.inside(files.listing(home / folder))
            for name in inside.get(folder, ()):
                path = f"{folder}/{name}"
                with contextlib.suppress(FileNotFoundError):
                    found[path] = _stamp(os.stat(f"{home}/{path}"))  # noqa: PTH116 - a Path takes longer than the call
    return found


def _is_fresh(stamp: str) -> bool:
    return int(stamp.partition(" ")[0]) > (time.time() - _FRESH) * 1e9


def _stamp(status: os.stat_result) -> str:
    # Who restores a backup sets the time of writing, but never that of the last change.
    return f"{status.st_mtime_ns} {status.st_ino} {status.st_size} {status.st_ctime_ns}"


def _read(home: Path, path: str, connection: sqlite3.Connection) -> None:
    folder, _, name = path.partition("/")
    try:
        if folder == "manifests":
            _read_manifest(home, path, name.removesuffix(".json"), connection)
        elif folder == "runs":
            _read_run(home, path, name.removesuffix(".json"), connection)
        else:
            _read_name(home, path, name, connection)
    except (RegistryError, FileNotFoundError):
        return  # damaged, which `verify` reports, or gone by now


def _read_manifest(home: Path, path: str, digest: str, connection: sqlite3.Connection) -> None:
    manifest = manifests.read(home, digest)
    created = (home / path).stat().st_mtime
    row = (path, digest, manifest.kind, manifest.base, manifest.size, created)
    connection.execute("insert into artifacts values (?, ?, ?, ?, ?, ?)", row)
    if manifest.base:
        connection.execute("insert into uses values (?, ?, ?)", (path, digest, manifest.base))
    if report := manifest.files.get(_REPORT):
        rows = [(path, digest, *score) for score in _scores(blobs.location(home, report.sha256))]
        connection.executemany("insert into scores values (?, ?, ?, ?, ?, ?)", rows)


def _scores(file: Path) -> Iterable[tuple[str, str, float, bool]]:
    """Subject, metric, value and verdict of every figure of a report; of a broken one, or of another form, none."""
    try:
        report = json.loads(file.read_bytes())
        return [
            (subject, metric, float(value), report.get("passed") is not False)
            for subject, scores in report["scores"].items()
            for metric, value in scores.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return []


def _read_run(home: Path, path: str, run_id: str, connection: sqlite3.Connection) -> None:
    record = runs.read(home, run_id)
    for step in runs.steps(record):
        digest, cached = step["digest"], step.get("status") == "cached"
        made = (path, digest, run_id, str(step.get("name")), runs.started(record), cached)
        connection.execute("insert into made values (?, ?, ?, ?, ?, ?)", made)
        sources = {source for given in runs.inputs(step).values() for source in given} - {digest}
        connection.executemany("insert into uses values (?, ?, ?)", [(path, digest, source) for source in sources])
        if not sources:  # where something came from is in the configuration of what made it of nothing
            words = [(path, digest, str(step.get("stage")), word) for word in runs.words(step.get("config"))]
            connection.executemany("insert into words values (?, ?, ?, ?)", words)


def _read_name(home: Path, path: str, name: str, connection: sqlite3.Connection) -> None:
    known = refs.named(home, name)
    if known is None:
        return
    for number, digest in known.versions.items():
        about = known.about.get(number, About())
        aliases = [alias for alias, stands_for in known.aliases.items() if stands_for == number]
        named = (home / path / f"v{number}").stat().st_mtime
        row = (path, name, number, digest, named, json.dumps(aliases), json.dumps(about.tags), about.note)
        connection.execute("insert into versions values (?, ?, ?, ?, ?, ?, ?, ?)", row)
