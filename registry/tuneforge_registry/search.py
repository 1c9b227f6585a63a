"""Questions to the index: what there is, what it is called, how it was judged, and what was made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuneforge_registry import index
from tuneforge_registry.found import Score, Stored, Version, Wanted


def artifacts(home: Path, wanted: Wanted) -> list[Stored]:
    """What is wanted, newest first. An artifact with a damaged manifest is left out here, and reported by `verify`."""
    clauses, values = ["true"], list[Any]()
    for clause, given in _clauses(wanted):
        clauses.append(clause)
        values += given
    sql = (
        "select digest, kind, base, size, created from artifacts "
        f"where {' and '.join(clauses)} order by created desc, digest limit ?"
    )
    values.append(-1 if wanted.limit is None else wanted.limit)
    rows = index.ask(home, lambda connection: connection.execute(sql, values).fetchall())
    return [
        Stored(digest, kind, base, size, datetime.fromtimestamp(created, UTC))
        for digest, kind, base, size, created in rows
    ]


def _clauses(wanted: Wanted) -> Iterator[tuple[str, list[Any]]]:
    if wanted.kind is not None:
        yield "kind = ?", [wanted.kind]
    if wanted.name is not None:
        yield "digest in (select digest from versions where name glob ?)", [wanted.name]
    if wanted.tag is not None:
        having = "select digest from versions, json_each(versions.tags) as tag where tag.value = ?"
        yield f"digest in ({having})", [wanted.tag]
    for metric, comparison, value in wanted.metrics:
        yield f"digest in (select subject from scores where metric = ? and value {comparison} ?)", [metric, value]
    for stage, root in (("load_model", wanted.base), ("format", wanted.data)):
        if root is not None:
            roots = "select ? union select digest from words where stage = ? and (word = ? or word glob ?)"
            below = "select uses.digest from uses join below on uses.source = below.digest"
            made = f"with recursive below (digest) as ({roots} union {below}) select digest from below"
            # A source is recorded as its name and the beginning of its digest.
            given = [root, stage, root, f"{_plain(root)}@*"]
            yield f"digest in ({made}) and digest not in ({roots})", [*given, *given]


def _plain(text: str) -> str:
    """A text that `glob` takes as it is."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def versions(home: Path, digest: str | None = None) -> list[Version]:
    """Every version of every name, or those of an artifact, by name and number."""
    where, values = ("", []) if digest is None else ("where digest = ?", [digest])
    sql = f"select name, number, digest, named, aliases, tags, note from versions {where} order by name, number"
    rows = index.ask(home, lambda connection: connection.execute(sql, values).fetchall())
    return [
        Version(name, number, of, datetime.fromtimestamp(named, UTC), _listed(aliases), _listed(tags), note)
        for name, number, of, named, aliases, tags, note in rows
    ]


def called(home: Path) -> dict[str, list[str]]:
    """What each named artifact is called, as `str` of its versions."""
    sql = "select digest, name || '@v' || number, aliases from versions order by name, number"
    found: dict[str, list[str]] = {}
    for digest, name, aliases in index.ask(home, lambda connection: connection.execute(sql).fetchall()):
        alike = found.setdefault(digest, [])
        alike.append(name if aliases == "[]" else name + "".join(f" @{alias}" for alias in json.loads(aliases)))
    return found


def _listed(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text != "[]" else ()


def scores(home: Path, subject: str | None = None) -> list[Score]:
    """The figures that reports give, to all or to one artifact: those of the newest report first."""
    where, values = ("", []) if subject is None else ("where subject = ?", [subject])
    sql = (
        "select report, subject, metric, value, passed from scores join artifacts on artifacts.digest = report "
        f"{where} order by created desc, report, scores.rowid"
    )
    rows = index.ask(home, lambda connection: connection.execute(sql, values).fetchall())
    return [Score(report, of, metric, value, bool(passed)) for report, of, metric, value, passed in rows]


def makers(home: Path) -> dict[str, tuple[str, str]]:
    """(run id, step name) of the newest recorded step that made each artifact, one that found it cached at a pinch."""
    sql = "select digest, run, step from made order by cached desc, started, run, rowid desc"
    rows = index.ask(home, lambda connection: connection.execute(sql).fetchall())
    return {digest: (run, step) for digest, run, step in rows}  # the last one counts


def users(home: Path, digest: str) -> list[str]:
    """The artifacts here that were made of this one, by any recorded step, or that sit on it."""
    sql = "select distinct artifacts.digest from uses join artifacts using (digest) where source = ? order by 1"
    return [found for (found,) in index.ask(home, lambda connection: connection.execute(sql, (digest,)).fetchall())]
