"""Everything that the report of a run shows, as plain values: from its record, and from the artifacts it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuneforge_registry import Registry, RegistryError

from ..artifacts import Report
from ..launch.options import spread
from ..recipe import REGISTRY
from .answers import Sheet, read_answers
from .left_out import LeftOut, left_out
from .points import Curve, curves_of, points_of
from .samples import Samples, samples_of
from .scores import Evaluation, evaluation, from_metrics
from .sweeps import Sweep, sweeps
from .texts import all_shown

_SOURCE = re.compile(r"(.*)@([0-9a-f]{12})", re.DOTALL)
_LOG = 1 << 13  # bytes of the end of a failed step's log


@dataclass(frozen=True)
class Made:
    """The artifact that a step gave. `files` is None for one that is no longer in the registry.

    `names` are what the registry calls it, such as `orders@v1 @production`; `run` is the run that made it.
    """

    digest: str
    kind: str
    base: str | None
    names: tuple[str, ...]
    files: int | None
    bytes: int
    run: str


@dataclass(frozen=True)
class Warned:
    """What a step warned of when `done` parts of its work were done, and what mends it."""

    problem: str
    fix: str
    done: float


@dataclass(frozen=True)
class StepReport:
    """One step of the run. `status` is cached, done, failed, interrupted, skipped or running.

    A repeat is one `of` a written step, set apart by `each`. `seconds` it took, beginning `began` seconds after the run
    did; `import_seconds` and `work_seconds` are parts of it.
    """

    name: str
    stage: str
    method: str
    status: str
    wires: Mapping[str, Sequence[str]]
    of: str = ""
    each: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    began: float = 0.0
    import_seconds: float = 0.0
    work_seconds: float = 0.0
    peak_memory: int = 0
    environment: str = ""
    launch: str = ""
    """How it was spread over processes, if it was; and the extension that added it to the recipe, if one did."""
    added_by: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    made: Made | None = None
    curves: tuple[Curve, ...] = ()
    points: int = 0
    samples: Samples | None = None
    warnings: tuple[Warned, ...] = ()
    error: str = ""
    traceback: str = ""
    log: str = ""

    @property
    def sources(self) -> list[str]:
        """The ends of its wires, each once."""
        return list(dict.fromkeys(wire for wires in self.wires.values() for wire in wires))


@dataclass(frozen=True)
class Failure:
    """What ended the run early: in which step, the problem and what mends it."""

    step: str
    problem: str
    fix: str


@dataclass(frozen=True)
class Ancestor:
    """A place in the tree of how an artifact came to be. `repeated` is one whose own inputs stand further up."""

    wire: str
    made_by: str
    kind: str
    digest: str
    inputs: tuple[tuple[str, Ancestor], ...] = ()
    repeated: bool = False


@dataclass(frozen=True)
class Source:
    """A file or folder that an option points at, counted by content."""

    step: str
    option: str
    name: str
    digest: str


@dataclass(frozen=True)
class RunReport:
    """A run as its report shows it. `seconds` is None for one of which the end is not known."""

    id: str
    recipe: str
    status: str
    started: datetime | None
    seconds: float | None
    machine: Mapping[str, Any]
    threads: int | None
    version: str
    commit: str
    settings: tuple[str, ...]
    text: str
    steps: tuple[StepReport, ...]
    failure: Failure | None
    evaluations: tuple[Evaluation, ...]
    sheets: tuple[Sheet, ...]
    sweeps: tuple[Sweep, ...]
    left_out: tuple[LeftOut, ...]
    lineages: tuple[Ancestor, ...]
    sources: tuple[Source, ...]
    trackers: Mapping[str, Mapping[str, Any]]
    """What each tracker was told, and its place: a folder or a link."""
    packages: Mapping[str, Mapping[str, str]]
    gone: tuple[str, ...]
    """Steps whose report is no longer in the registry."""

    def step(self, name: str) -> StepReport:
        return next(step for step in self.steps if step.name == name)


def gather(registry: Registry, run_id: str) -> RunReport:
    """The report of a recorded run. What is no longer in the registry is left out, and said."""
    record = all_shown(registry.run(run_id))
    started, ended = _time(record.get("started")), _time(record.get("ended"))
    status = str(record.get("status", ""))
    if status == "running":
        ended = datetime.now(UTC)
    seconds = (ended - started).total_seconds() if started and ended else None
    names = registry.called()
    steps = tuple(_steps(registry, run_id, record, status, seconds, names))
    called = _called_by_wires(record, steps)
    reports, gone = _reports(registry, steps)
    evaluations = tuple(found for name, report in reports.items() if (found := evaluation(name, report, called)))
    unused = (left_out(step.name, dict(reports.get(step.name, {})) | dict(step.metrics)) for step in steps)
    environments = record.get("environments") or {}
    return RunReport(
        id=run_id,
        recipe=str(record.get("recipe", "")),
        status=status,
        started=started,
        seconds=seconds,
        machine=record.get("machine") or {},
        threads=record.get("threads"),
        version=str(record.get("tuneforge") or environments.get("this", {}).get("tuneforge", "")),
        commit=_commit(record.get("git")),
        settings=tuple(record.get("settings") or ()),
        text=str(record.get("file", "")),
        steps=steps,
        failure=_failure(steps, status),
        evaluations=evaluations,
        sheets=tuple(_sheets(registry, steps, called)),
        sweeps=tuple(sweeps(steps, evaluations)),
        left_out=tuple(found for found in unused if found),
        lineages=tuple(_lineages(registry, steps, record)),
        sources=tuple(source for step in steps for source in _sources(step.name, step.config)),
        trackers=record.get("trackers") or {},
        packages=environments,
        gone=gone,
    )


def _steps(
    registry: Registry,
    run_id: str,
    record: Mapping[str, Any],
    status: str,
    seconds: float | None,
    names: Mapping[str, Sequence[str]],
) -> Iterator[StepReport]:
    """The steps in the order of the run. Those that it did not come to are told by what was planned."""
    elapsed = 0.0
    for entry in record["steps"]:
        began = entry.get("began", elapsed)
        yield _step(registry, run_id, entry, began, names)
        elapsed = began + entry["seconds"]
    known = {entry["name"] for entry in record["steps"]}
    missing = [entry for entry in record.get("planned") or () if entry["name"] not in known]
    for place, entry in enumerate(missing):
        step = StepReport(
            entry["name"],
            entry["stage"],
            entry["method"],
            "skipped",
            entry["wires"],
            entry.get("of", ""),
            entry.get("each", {}),
        )
        if place or status not in ("running", "interrupted", "failed"):
            yield step
            continue
        points = points_of(registry, run_id, step.name)
        told = points[-1].seconds if points else 0.0  # a run that was killed did not note its end
        took = told if seconds is None else seconds - elapsed
        samples = samples_of(registry, run_id, step.name)
        curves = curves_of(points)
        warnings = tuple(_warnings(registry, entry))
        step = replace(step, status=status, began=elapsed, seconds=took, samples=samples, warnings=warnings)
        yield replace(step, curves=curves, points=len(points))


def _step(
    registry: Registry, run_id: str, entry: Mapping[str, Any], began: float, names: Mapping[str, Sequence[str]]
) -> StepReport:
    name, digest, key = entry["name"], entry.get("digest"), entry.get("key")
    points = points_of(registry, run_id, name, key, digest)
    failed, launch = entry["status"] == "failed", entry.get("launch")
    return StepReport(
        name=name,
        stage=entry["stage"],
        method=entry["method"],
        status=entry["status"],
        wires=entry.get("wires") or {},
        of=entry.get("of", ""),
        each=entry.get("each", {}),
        seconds=entry["seconds"],
        began=began,
        import_seconds=entry.get("import_seconds", 0.0),
        work_seconds=entry.get("work_seconds", 0.0),
        peak_memory=entry.get("peak_memory", 0),
        environment=entry.get("environment", ""),
        launch=spread(*(launch[key] for key in ("processes", "nodes", "strategy"))) if launch else "",
        added_by=entry.get("added_by", ""),
        config=entry.get("config") or {},
        metrics=entry.get("metrics") or {},
        key=key,
        made=_made(registry, run_id, entry, names) if digest else None,
        curves=curves_of(points),
        points=len(points),
        samples=samples_of(registry, run_id, name, digest),
        warnings=tuple(_warnings(registry, entry)),
        error=entry.get("error", ""),
        traceback=entry.get("traceback", ""),
        log=_log(registry.home / "runs" / run_id / f"{name}.log") if failed else "",
    )


def _warnings(registry: Registry, entry: Mapping[str, Any]) -> Iterator[Warned]:
    """What the step warned of; of one that was cached, when its result was made."""
    if entry.get("status") == "cached" and entry.get("digest"):
        for maker, name in registry.made_by(entry["digest"]):
            found = [step for step in registry.run(maker)["steps"] if step["name"] == name]
            if found and found[0]["status"] == "done":
                entry = all_shown(found[0])
                break
    for told in entry.get("warnings") or ():
        yield Warned(str(told.get("problem", "")), str(told.get("fix", "")), float(told.get("done") or 0))


def _made(registry: Registry, run_id: str, entry: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> Made:
    digest = entry["digest"]
    base, files, size = None, None, 0
    if digest in registry:
        manifest = registry.manifest(digest)
        base, files, size = manifest.base, len(manifest.files), manifest.size
    maker = run_id
    if entry["status"] == "cached":
        maker = next((run for run, _ in reversed(registry.made_by(digest))), run_id)
    return Made(digest, str(entry.get("kind")), base, tuple(names.get(digest, ())), files, size, maker)


def _reports(registry: Registry, steps: Iterable[StepReport]) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    found, gone = {}, []
    for step in steps:
        if step.made is None or step.made.kind != Report.kind:
            continue
        folder = _folder(registry, step.made.digest)
        if folder is None:
            gone.append(step.name)
        report = Report.summary(folder) if folder else {}
        found[step.name] = all_shown(report or from_metrics(step.metrics))
    return found, tuple(gone)


def _sheets(registry: Registry, steps: Iterable[StepReport], called: Mapping[str, str]) -> Iterator[Sheet]:
    for step in steps:
        folder = _folder(registry, step.made.digest) if step.made and step.made.kind == Report.kind else None
        sheet = read_answers(folder / "answers.jsonl", step.name, called) if folder else None
        if sheet:
            yield sheet


def _folder(registry: Registry, digest: str) -> Path | None:
    try:
        return registry.tree(digest)
    except RegistryError:  # collected as garbage since
        return None


def _lineages(registry: Registry, steps: Sequence[StepReport], record: Mapping[str, Any]) -> Iterator[Ancestor]:
    """How each artifact that no other step uses came to be."""
    used = {wire for step in steps if step.made for wire in step.sources}
    inputs = {entry["name"]: entry.get("inputs") or {} for entry in record["steps"]}
    by_name = {step.name: step for step in steps}
    told: set[str] = set()

    def grow(wire: str, digest: str) -> Ancestor:
        step = by_name.get(wire)
        if step is None or step.made is None:
            return _from_registry(registry, wire, digest)
        made_by = f"{step.stage}: {step.method}"
        if wire in told:
            return Ancestor(wire, made_by, step.made.kind, digest, (), any(step.wires.values()))
        told.add(wire)
        sources = tuple(
            (name, grow(source, given))
            for name, wires in step.wires.items()
            for source, given in zip(wires, inputs[wire].get(name, ()), strict=False)
        )
        return Ancestor(wire, made_by, step.made.kind, digest, sources)

    for step in steps:
        if step.made and step.name not in used:
            told.clear()
            yield grow(step.name, step.made.digest)


def _from_registry(registry: Registry, wire: str, digest: str) -> Ancestor:
    """An artifact that the run found in the registry, and the steps of other runs that made it."""
    told: set[str] = set()

    def grow(at: Any, wire: str) -> Ancestor:
        made_by = f"{at.step['stage']}: {at.step['method']} in {at.run}" if at.step else ""
        repeated = at.digest in told and bool(at.inputs)
        told.add(at.digest)
        sources = [(name, found) for name, all_found in at.inputs.items() for found in all_found]
        sources += [("base", at.base)] if at.base else []
        given = () if repeated else tuple((name, grow(one, _called(one))) for name, one in sources)
        return Ancestor(all_shown(wire), all_shown(made_by), all_shown(at.kind or ""), at.digest, given, repeated)

    return grow(registry.lineage(digest), wire)


def _called(at: Any) -> str:
    return str(at.step["name"]) if at.step else ""


def _sources(step: str, config: Mapping[str, Any], path: str = "") -> Iterator[Source]:
    for name, value in config.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from _sources(step, inner, f"{path}{name}.")
            elif isinstance(inner, str) and (found := _SOURCE.fullmatch(inner)):
                yield Source(step, path + name, found[1], found[2])


def _called_by_wires(record: Mapping[str, Any], steps: Iterable[StepReport]) -> dict[str, str]:
    """What the run calls each digest: the first step that gave it, or the reference by which it was found."""
    called: dict[str, str] = {}
    for step in steps:
        if step.made:
            called.setdefault(step.made.digest, step.name)
    for entry in record["steps"]:
        for name, digests in (entry.get("inputs") or {}).items():
            for wire, digest in zip(entry.get("wires", {}).get(name, ()), digests, strict=False):
                called.setdefault(digest, wire)
    return called


def _failure(steps: Sequence[StepReport], status: str) -> Failure | None:
    for step in steps:
        if step.status == "failed" and step.error:
            problem, _, fix = step.error.removeprefix(f"step {step.name}: ").rpartition("\n    ")
            return Failure(step.name, problem or fix, fix if problem else "")
    at = next((step.name for step in steps if step.status == status), "")
    again = "The same command goes on from there: finished steps are kept."
    if status == "interrupted":
        return Failure(at, "The run was interrupted before it was done.", again)
    if status == "failed":
        return Failure(at, "The run ended with an error of its own, outside of any step's work.", again)
    return None


def _log(path: Path) -> str:
    """The end of a step's log."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG))
        return str(all_shown(file.read().decode(errors="replace").strip()))


def _commit(git: Any) -> str:
    if not isinstance(git, dict):
        return ""
    return f"{str(git.get('commit'))[:12]}{', with changes' if git.get('dirty') else ''}"


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def is_reference(wire: str) -> bool:
    """Whether a wire ends in the registry and not at a step."""
    return wire.startswith(REGISTRY)
