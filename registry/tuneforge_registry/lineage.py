"""How an artifact came to be, followed through run records and bases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneforge_registry import index, manifests, runs

if TYPE_CHECKING:
    from sqlite3 import Connection


@dataclass(frozen=True)
class Lineage:
    """An artifact and where it comes from.

    `kind` is None if neither a manifest nor a record tells. `step` is the record of the step that made it, in the run
    `run`; both are None for what no recorded run has made. `inputs` are that step's, by parameter. `base` is what the
    artifact sits on, unless that is among the inputs.
    """

    digest: str
    kind: str | None
    run: str | None = None
    step: Mapping[str, Any] | None = None
    inputs: Mapping[str, tuple[Lineage, ...]] = field(default_factory=dict)
    base: Lineage | None = None


def made_by(home: Path, digest: str) -> list[tuple[str, str]]:
    """(run id, step name) of every recorded step that gave `digest`, newest run first."""
    sql = "select run, step from made where digest = ? order by started desc, run desc, rowid"
    return index.ask(home, lambda connection: connection.execute(sql, (digest,)).fetchall())


def trace(home: Path, digest: str) -> Lineage:
    return index.ask(home, lambda connection: _trace(home, connection, digest, {}, frozenset()))


def _trace(home: Path, connection: Connection, digest: str, done: dict[str, Lineage], above: frozenset[str]) -> Lineage:
    if digest in done:
        return done[digest]
    above |= {digest}
    run, step = _origin(home, connection, digest, above)
    manifest = manifests.told(home, digest)
    inputs = {
        parameter: tuple(_trace(home, connection, source, done, above) for source in sources)
        for parameter, sources in runs.inputs(step or {}).items()
    }
    base = manifest.base if manifest else None
    if base in above or any(base == source.digest for sources in inputs.values() for source in sources):
        base = None
    kind = manifest.kind if manifest else (step or {}).get("kind")
    traced = Lineage(digest, kind, run, step, inputs, _trace(home, connection, base, done, above) if base else None)
    done[digest] = traced
    return traced


def _origin(
    home: Path, connection: Connection, digest: str, above: frozenset[str]
) -> tuple[str | None, Mapping[str, Any] | None]:
    """The newest step that made `digest` rather than found it cached, passing over any that fed on its own outcome.

    (A step may give back its input unchanged; its record does not tell where that came from.)
    """
    sql = "select run, step from made where digest = ? order by cached, started desc, run desc, rowid"
    for run, name in connection.execute(sql, (digest,)).fetchall():
        for step in runs.steps(runs.read(home, run)):
            sources = {source for sources in runs.inputs(step).values() for source in sources}
            if step["digest"] == digest and str(step.get("name")) == name and not sources & above:
                return run, step
    return None, None
