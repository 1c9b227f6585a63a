"""How an artifact came to be, followed through run records and bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
    return index.ask(home, lambda connection: _trace(_Records(home), connection, digest))


def origin(home: Path, digest: str) -> tuple[str | None, Mapping[str, Any] | None]:
    """The run and the record of the step that made `digest`; None for what no recorded run has made."""
    return index.ask(home, lambda connection: _origin(_Records(home), connection, digest, frozenset({digest})))


class _Records:
    """The steps of run records, each record read once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._read: dict[str, dict[tuple[str, str], list[Mapping[str, Any]]]] = {}

    def steps(self, run_id: str, name: str, digest: str) -> Sequence[Mapping[str, Any]]:
        """The steps of a run that have this name and gave this."""
        if run_id not in self._read:
            self._read[run_id] = {}
            for step in runs.steps(runs.read(self.home, run_id)):
                self._read[run_id].setdefault((str(step.get("name")), step["digest"]), []).append(step)
        return self._read[run_id].get((name, digest), [])


class _Opened(NamedTuple):
    """An artifact whose sources are still to be traced; `above` are those that it went into, itself included."""

    digest: str
    above: frozenset[str]
    kind: str | None
    run: str | None
    step: Mapping[str, Any] | None
    inputs: Mapping[str, Sequence[str]]
    base: str | None

    @property
    def sources(self) -> list[str]:
        found = [source for sources in self.inputs.values() for source in sources]
        return found + ([self.base] if self.base else [])


def _trace(records: _Records, connection: Connection, digest: str) -> Lineage:
    """Without recursion: a model that goes on from another for years has a long lineage."""
    done: dict[str, Lineage] = {}
    path = [_open(records, connection, digest, frozenset())]
    while path:
        at = path[-1]
        following = next((source for source in at.sources if source not in done), None)
        if following is not None:
            path.append(_open(records, connection, following, at.above))
            continue
        inputs = {name: tuple(done[source] for source in sources) for name, sources in at.inputs.items()}
        done[at.digest] = Lineage(at.digest, at.kind, at.run, at.step, inputs, done[at.base] if at.base else None)
        path.pop()
    return done[digest]


def _open(records: _Records, connection: Connection, digest: str, above: frozenset[str]) -> _Opened:
    above |= {digest}
    run, step = _origin(records, connection, digest, above)
    manifest = manifests.told(records.home, digest)
    inputs = runs.inputs(step or {})
    base = manifest.base if manifest else None
    if base in above or any(base in sources for sources in inputs.values()):
        base = None
    kind = manifest.kind if manifest else (step or {}).get("kind")
    return _Opened(digest, above, kind, run, step, inputs, base)


def _origin(
    records: _Records, connection: Connection, digest: str, above: frozenset[str]
) -> tuple[str | None, Mapping[str, Any] | None]:
    """The newest step that made `digest` rather than found it cached, passing over any that fed on its own outcome.

    (A step may give back its input unchanged; its record does not tell where that came from.)
    """
    sql = "select run, step from made where digest = ? order by cached, started desc, run desc, rowid"
    for run, name in connection.execute(sql, (digest,)).fetchall():
        for step in records.steps(run, name, digest):
            if not any(source in above for sources in runs.inputs(step).values() for source in sources):
                return run, step
    return None, None
