"""Runs a recorded recipe again, from nothing, and tells whether it makes the same bytes.

The run record has what that needs: the recipe's text and overrides, where it lay, the packages of each environment and
the digest of everything that was read and made. What the recipe took from the registry by reference is given to the
new run under the same references; releases are written aside.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tuneforge_registry import Registry, RegistryError

from . import __version__
from .environments import closure, make, pinned
from .errors import Finding, RefusedError, StepError
from .events import Logged, Observer
from .keys import shown_config
from .plan import Plan, PlannedStep, make_plan
from .provenance import machine, packages
from .recipe import REGISTRY, Recipe, read_recipe
from .redaction import REDACTED
from .runner import Run
from .stages import Publish

_SOURCE = re.compile(r"(.+)@([0-9a-f]{12})", re.DOTALL)
_OURS = "tuneforge"


@dataclass(frozen=True)
class Recorded:
    """What a record tells of how an artifact was made: the run, its record, and the step's name there."""

    registry: Registry
    run: str
    record: Mapping[str, Any]
    step: str

    @property
    def steps(self) -> dict[str, Mapping[str, Any]]:
        """The steps that gave something, by name."""
        return {step["name"]: step for step in self.record["steps"] if step.get("digest")}

    def environment(self, step: Mapping[str, Any]) -> Mapping[str, str]:
        """The versions of the packages that a step was carried out with, by whichever run did; empty if unknown."""
        record: Mapping[str, Any] = self.record
        if step.get("status") == "cached":
            run, made = self.registry.origin(step["digest"])
            if run is None or made is None:
                return {}
            record, step = self.registry.run(run), made
        found: Mapping[str, str] = (record.get("environments") or {}).get(step.get("environment"), {})
        return found


@dataclass(frozen=True)
class Agreement:
    """What a step gave then, and now; `now` is None where it was not made."""

    step: str
    then: str
    now: str | None

    @property
    def same(self) -> bool:
        return self.then == self.now


@dataclass
class Reproduction:
    """A recorded recipe, planned anew in a fresh registry. `told` is what differs and may matter."""

    recorded: Recorded
    plan: Plan
    told: list[Finding]

    def carry_out(self, observer: Observer) -> tuple[dict[str, Any], list[Agreement]]:
        """Runs it, and compares every step with what was recorded; gives the new record too.

        Raises RefusedError when an environment cannot be made as it was.
        """
        for step in _to_run(self.plan):
            if step.environment and step.environment.pins:
                try:
                    make(step.environment, self.plan.registry.home, partial(_say, observer, step.name))
                except StepError as error:
                    fix = "--with-present-packages does with the versions that are here."
                    raise RefusedError(error.finding.problem, fix, f"step {step.name}") from error
        threads = self.recorded.record.get("threads") or 1
        made = Run(self.plan, observer, threads).carry_out()
        now = {step["name"]: step.get("digest") for step in made["steps"]}
        then = self.recorded.steps
        return made, [
            Agreement(name, then[name]["digest"], now.get(name))
            for name, step in self.plan.steps.items()
            if name in then and step.status != "skipped"
        ]


def _say(observer: Observer, step: str, text: str) -> None:
    observer(Logged(step, text))


def recorded(registry: Registry, digest: str) -> Recorded:
    """The record of the newest run that made an artifact. Raises RefusedError if there is none that tells enough."""
    run, step = registry.origin(digest)
    if run is None or step is None:
        raise RefusedError(f"no recorded run has made {digest[:12]}", "Only what a recipe made can be made again.")
    record = registry.run(run)
    if not isinstance(record.get("file"), str):
        raise RefusedError(f"the record of run {run} does not have its recipe", "It was written by an older version.")
    if any(REDACTED in text for text in (record["file"], *(record.get("settings") or ()))):
        problem = f"the recipe of run {run} had a secret in it, which was not kept"
        raise RefusedError(problem, "Run the recipe itself, in another home, and compare with `registry diff`.")
    return Recorded(registry, run, record, str(step["name"]))


@contextlib.contextmanager
def prepared(registry: Registry, digest: str, home: Path | None, present_packages: bool) -> Iterator[Reproduction]:
    """An artifact's recipe, ready to be run again in the registry `home`, or in one that is gone at the end.

    Raises RefusedError for what would make another result for certain, all of it at once: data or code that changed.
    """
    then = recorded(registry, digest)
    with registry.workspace() as room:
        fresh = Registry(home or room / "home")
        fresh.home.mkdir(parents=True, exist_ok=True)
        _share_environments(registry, fresh)
        _give_references(then, fresh)
        recipe = _aside(then, _read(then), room / "released")
        if then.step not in recipe.names and not recipe.problems:
            raise RefusedError(f"run {then.run} has no step {then.step} in its recipe now", "A plugin adds it no more.")
        plan = make_plan(recipe, fresh, until=then.step, again=list(recipe.steps))
        told = [*_unlike_machine(then)]
        if not plan.errors:
            told += [*_unlike(then, plan), *_as_it_was(then, plan, present_packages)]
        errors = [*plan.errors, *(finding for finding in told if finding.level == "error")]
        if errors:
            raise RefusedError(errors)
        yield Reproduction(then, plan, [*plan.findings, *told])


def _read(then: Recorded) -> Recipe:
    """The recorded recipe, as if it lay where it lay, with overrides given where they were given."""
    record = then.record
    path = Path(str(record.get("path") or f"{record.get('recipe')}.yaml"))
    folder = Path(str(record.get("folder") or path.parent))
    with contextlib.chdir(folder) if folder.is_dir() else contextlib.nullcontext():
        recipe = read_recipe(path, list(record.get("settings") or ()), text=record["file"])
    return replace(recipe, trackers={})


def _aside(then: Recorded, recipe: Recipe, room: Path) -> Recipe:
    """The recipe with every release written below `room`. What is published elsewhere than in a folder is left out."""
    steps = {}
    for name, spec in recipe.steps.items():
        moved: list[Path] = []

        def move(path: Path, moved: list[Path] = moved) -> Path:
            moved.append(room.joinpath(*path.parts[1:]))
            moved[-1].parent.mkdir(parents=True, exist_ok=True)
            return moved[-1]

        if isinstance(spec.method, Publish):
            config = spec.method.model_dump(mode="json", context={"target": move})
            if moved:
                steps[name] = replace(spec, method=type(spec.method)(**config))
            elif name == then.step:
                problem = f"{spec.method.stage}: {spec.method.name} publishes where others see it, which is done once"
                fix = f"Reproduce what it has published: {', '.join(spec.sources())}."
                raise RefusedError(problem, fix, f"step {name}")
        else:
            steps[name] = spec
    return replace(recipe, steps=steps)


def _share_environments(registry: Registry, fresh: Registry) -> None:
    """Environments are the same whoever makes them; to make one takes minutes."""
    (registry.home / "envs").mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (fresh.home / "envs").symlink_to(registry.home / "envs", target_is_directory=True)


def _give_references(then: Recorded, fresh: Registry) -> None:
    """Everything that the recipe took from the registry is in the fresh one, under the same references."""
    found: dict[str, str] = {}
    for step in then.steps.values():
        for name, wires in (step.get("wires") or {}).items():
            for wire, digest in zip(wires, (step.get("inputs") or {}).get(name, ()), strict=False):
                if wire.startswith(REGISTRY):
                    found[wire.removeprefix(REGISTRY)] = digest
    for digest in found.values():
        _copy(then.registry, fresh, digest)
    versions = then.registry.versions()
    for ref, digest in found.items():
        if _means(fresh, ref) == digest:
            continue
        name, _, point = ref.partition("@")
        numbers = [version.number for version in versions if (version.name, version.digest) == (name, digest)]
        told = re.fullmatch(r"v([1-9]\d*)", point)
        with contextlib.suppress(RegistryError):  # a number may be taken by another, of two references to one name
            number = int(told[1]) if told else numbers[-1] if numbers else 1
            fresh.place(name, number, digest, point if point and not told else None)
        if _means(fresh, ref) != digest:
            raise RefusedError(f"{REGISTRY}{ref} was {digest[:12]} then, which cannot be told any more")


def _means(registry: Registry, ref: str) -> str | None:
    try:
        return registry.resolve(ref)
    except RegistryError:
        return None


def _copy(registry: Registry, fresh: Registry, digest: str) -> None:
    """An artifact, with what it sits on, by hard links where that can be."""
    if digest in fresh:
        return
    manifest = registry.manifest(digest)
    if manifest.base:
        _copy(registry, fresh, manifest.base)
    with fresh.workspace() as room:
        for path in manifest.files:
            target = room / "copy" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            source = registry.tree(digest) / path
            try:
                target.hardlink_to(source)
            except OSError:
                import shutil

                shutil.copyfile(source, target)
        fresh.put(room / "copy", manifest.kind, manifest.base)


def _unlike_machine(then: Recorded) -> Iterator[Finding]:
    now = machine()
    before = then.record.get("machine") or {}
    for what in ("python", "platform"):
        if before.get(what) not in (None, now[what]):
            yield Finding(f"{what} was {before[what]} then, and is {now[what]} now", level="warning", place="machine")


def _unlike(then: Recorded, plan: Plan) -> Iterator[Finding]:
    """What a step reads or is otherwise than it was: an error where its result cannot be the same."""
    for step in _to_run(plan):
        before = then.steps.get(step.name)
        place = f"step {step.name}"
        if before is None:
            continue
        for option, was, now in _changed(before.get("config") or {}, shown_config(step.method, plan.digests)):
            source = _SOURCE.fullmatch(was) if isinstance(was, str) else None
            new = _SOURCE.fullmatch(now) if isinstance(now, str) else None
            if source and new:
                problem = f"{option}: {new[1]} has changed since: it was {source[2]}, and is {new[2]} now"
                yield Finding(problem, "Bring back the file that the run has read.", place=place)
            elif not isinstance(step.method, Publish):  # which says where to, and that is elsewhere now
                yield Finding(f"{option} was {was!r} then, and is {now!r} now", level="warning", place=place)
        if before.get("version") not in (None, step.method.version):
            problem = f"{step.method.name} was of version {before['version']} then, and is {step.method.version} now"
            yield Finding(problem, level="warning", place=place)
        code = plan.code(step) or "none"
        if before.get("code") not in (None, code):
            problem = f"the code of its plugin has changed since: it was {before['code'][:12]}, and is {code[:12]} now"
            yield Finding(problem, "Bring back the plugin as it was.", place=place)


def _to_run(plan: Plan) -> list[PlannedStep]:
    return [step for step in plan.steps.values() if step.status == "run"]


def _changed(then: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*then, *now]):
        was, is_now = then.get(name), now.get(name)
        if isinstance(was, dict) and isinstance(is_now, dict):
            yield from _changed(was, is_now, f"{path}{name}.")
        elif was != is_now:
            yield path + name, was, is_now


def _as_it_was(then: Recorded, plan: Plan, present_packages: bool) -> Iterator[Finding]:
    """Gives steps the environment with the versions that they had; or tells which differ, if that is not wanted."""
    told: set[str] = set()
    if then.record.get(_OURS) not in (None, __version__):
        problem = f"{_OURS} was {then.record[_OURS]} then, and is {__version__} now"
        yield Finding(problem, level="warning", place="packages")
    for step in _to_run(plan):
        versions = then.environment(then.steps[step.name]) if step.name in then.steps else {}
        if step.environment is None or not versions:
            continue
        here = packages(step.environment) if step.environment.ready else {}
        wanted = versions if step.environment.own else closure(step.environment.needs)
        differing = {name for name in versions if name in wanted and name != _OURS and here.get(name) != versions[name]}
        if odd := sorted(f"{name}=={version}" for name, version in versions.items() if not _is_pin(name, version)):
            problem = f"the record of run {then.run} tells of a package {odd[0][:80]!r}, which cannot be one"
            yield Finding(problem, "It was not written by tuneforge; do not run it.", place="packages")
        elif differing and not present_packages:
            pins = {name: version for name, version in versions.items() if name != _OURS}
            step.environment = pinned(step.environment, pins, plan.registry.home)
        for name in sorted(differing - told):
            does = "is used" if present_packages else "is there; an environment is made with the one of then"
            problem = f"{name} was {versions[name]} then; {here.get(name, 'none')} {does}"
            yield Finding(problem, level="warning", place="packages")
        told |= differing


def _is_pin(name: str, version: str) -> bool:
    """Whether it is a package and a version: a record may come from elsewhere, and these are told to an installer."""
    return re.fullmatch(r"[\w.-]+==[\w.!+-]+", f"{name}=={version}", re.ASCII) is not None


def is_fresh(home: Path) -> bool:
    """Whether a folder can be the registry of a reproduction: it is not there, or empty."""
    return not home.exists() or (home.is_dir() and not any(home.iterdir()))
