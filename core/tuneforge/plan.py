"""A recipe becomes a plan: the steps in order, each with its key, and whether its result is there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from tuneforge_registry import Registry, RegistryError

from .additions import extended
from .artifacts import Artifact, Facts, Release
from .environments import Environment, environment_for
from .errors import Finding, PluginError, RefusedError, TuneforgeError
from .inputs import inputs_of
from .keys import shown_config, step_key
from .launch.hardware import Hardware, hardware
from .launch.options import Launch, settle
from .plugins import told
from .recipe import REGISTRY, Recipe, StepSpec
from .redaction import redacted, secrets_of
from .shareable import without_places
from .sources import Digests
from .stages import Known, Method, Publish
from .sweeps.repeats import told_once
from .tracking.checking import check_trackers

Status = Literal["cached", "run", "skipped", "blocked"]


@dataclass(frozen=True)
class Result:
    """What stands at the end of a wire: of which kind, what is known of it, and its digest once it is there."""

    kind: type[Artifact]
    facts: Facts
    digest: str | None = None


@dataclass(eq=False)
class PlannedStep:
    """One step of a plan."""

    spec: StepSpec
    method: Method
    status: Status = "run"
    reason: str = ""
    key: str | None = None
    result: Result | None = None
    environment: Environment | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """The configuration as records show it, taken when the key was."""
    launch: Launch | None = None
    """How it is spread over processes, if it is."""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def place(self) -> str:
        return self.spec.place


@dataclass
class Plan:
    """What carrying out a recipe would do. `findings` of level error mean that it cannot be carried out."""

    recipe: Recipe
    registry: Registry
    digests: Digests
    steps: dict[str, PlannedStep] = field(default_factory=dict)
    references: dict[str, Result] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    again: frozenset[str] = frozenset()
    hardware: Hardware | None = None
    """Of the machines that steps are launched on; this one's where it is None."""
    _code: dict[Path, str] = field(default_factory=dict)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    def result(self, wire: str) -> Result | None:
        """What is at the end of a wire, if that is known."""
        if wire.startswith(REGISTRY):
            return self.references.get(wire)
        step = self.steps.get(wire)
        return step.result if step else None

    def key(self, step: PlannedStep) -> str | None:
        """The step's key; None while an input is not there yet. Raises OSError for a missing source."""
        inputs: dict[str, list[str]] = {}
        for name, wires in step.spec.inputs.items():
            results = [self.result(wire) for wire in wires]
            digests = [result.digest for result in results if result and result.digest]
            if len(digests) < len(wires):
                return None
            inputs[name] = digests
        step.config = shown_config(step.method, self.digests)
        source = self.recipe.plugins.origin(step.spec.kind).source
        # A local plugin is imported once: its code counts as it was then, whatever happens to the file later.
        code = self._code.setdefault(source, self.digests.of(source)) if source else None
        lineage = self.lineage(step) if step.method.traced else None
        return step_key(step.method, self.recipe.seed, inputs, self.digests, code, lineage)

    def code(self, step: PlannedStep) -> str | None:
        """The digest of the code of a local plugin that the step is of, as it was when it was imported."""
        source = self.recipe.plugins.origin(step.spec.kind).source
        return self._code.get(source) if source else None

    def unchanged(self, step: PlannedStep) -> bool:
        """Whether all that the step reads is still what its key was made of."""
        before = step.key
        source = self.recipe.plugins.origin(step.spec.kind).source
        return self.key(step) == before and (source is None or self.digests.of(source) == self._code[source])

    def known_metrics(self, step: PlannedStep) -> dict[str, Any]:
        """The figures of a step whose result is there, from the newest run that had it."""
        digest = step.result.digest if step.result else None
        for run_id, name in self.registry.made_by(digest) if digest else ():
            for made in self.registry.run(run_id)["steps"]:
                if made["name"] == name and made.get("key") == step.key:
                    return dict(made["metrics"])
        return {}

    def adopt(self, step: PlannedStep, digest: str) -> None:
        """Takes a stored artifact as the step's result."""
        step.result = stored(self.registry, digest, self.recipe.plugins.kinds)

    def lineage(self, step: PlannedStep) -> dict[str, Any]:
        """How everything before a step was made: the recipe, and an entry a step in the order of making. A function of
        content, and fit to be shown to others."""
        wanted: list[str] = []

        def visit(wire: str) -> None:
            if wire in wanted:
                return
            for source in self.steps[wire].spec.sources() if wire in self.steps else ():
                visit(source)
            wanted.append(wire)

        for wires in step.spec.inputs.values():
            for wire in wires:
                visit(wire)
        document = self.recipe.document
        told = {
            "recipe": self.recipe.name,
            "text": without_places(document.text),
            "settings": [without_places(setting) for setting in document.settings],
            "steps": [self._entry(wire) for wire in wanted],
        }
        known: dict[str, Any] = redacted(told, secrets_of(document.data))
        return known

    def _entry(self, wire: str) -> dict[str, Any]:
        result = self.result(wire)
        if result is None or result.digest is None:
            raise RuntimeError(f"lineage of {wire} asked for before it is there")
        base = self.registry.manifest(result.digest).base
        made: dict[str, Any] = {
            "name": wire,
            "digest": result.digest,
            "kind": result.kind.kind,
            "base": base,
            "summary": result.kind.summary(self.registry.tree(result.digest)),
        }
        step = self.steps.get(wire)
        if step is not None:
            made |= described(step, self)
            del made["plugin"]  # the path of a local one would tell of this machine
        return made


def described(step: PlannedStep, plan: Plan) -> dict[str, Any]:
    """A step as records and lineages tell it, by what counts for its result."""
    return {
        "stage": step.method.stage,
        "method": step.method.name,
        "version": step.method.version,
        "plugin": str(plan.recipe.plugins.origin(step.spec.kind)),
        "seed": plan.recipe.seed,
        "config": step.config,
        "inputs": step.spec.inputs,
    }


def stored(registry: Registry, digest: str, kinds: Mapping[str, type[Artifact]]) -> Result:
    """A stored artifact with its facts."""
    manifest = registry.manifest(digest)
    base = stored(registry, manifest.base, kinds).facts if manifest.base else None
    kind = kinds.get(manifest.kind)
    if kind is None:
        raise TuneforgeError(
            f"artifact {digest[:12]} is of the kind {manifest.kind}, which no plugin at hand knows",
            "Install the plugin that made it.",
        )
    return Result(kind, replace(kind.facts(registry.tree(digest), base), digest=digest), digest)


def make_plan(
    recipe: Recipe,
    registry: Registry,
    start: str | None = None,
    until: str | None = None,
    again: Sequence[str] = (),
    hardware: Hardware | None = None,
) -> Plan:
    """Plans a recipe: `start` and everything after it, up to `until`; the steps of `again` though they are cached."""
    recipe = extended(recipe, registry)
    for option, name in (("--from", start), ("--until", until), *(("--again", name) for name in again)):
        if name is not None and recipe.names and name not in recipe.names:
            near = get_close_matches(name, recipe.names, 1, 0.6)
            fix = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(recipe.names)}."
            raise RefusedError([*recipe.problems, Finding(f"there is no step {name}", fix, place=option)])
    digests = Digests(registry.home / "sources.json")
    anew = frozenset(step for name in again for step in recipe.called(name))
    plan = Plan(recipe, registry, digests, again=anew, hardware=hardware)
    before = _reach(recipe, recipe.called(until), lambda spec: spec.sources()) if until else set(recipe.steps)
    after = _reach(recipe, recipe.called(start), lambda spec: _users(recipe, spec.name)) if start else set(recipe.steps)
    wanted = before & after
    needed = _reach(recipe, sorted(wanted), lambda spec: spec.sources()) if start else set()
    told: list[tuple[Finding, str]] = []
    for spec in recipe.steps.values():
        _plan_step(plan, spec, wanted=spec.name in wanted or spec.name in needed)
        step = plan.steps.get(spec.name)
        if step and step.status == "run" and start and spec.name not in after:
            _block(plan, step, start)
        told += [(finding, spec.name) for finding in plan.findings]
        plan.findings.clear()
    plan.findings = [*recipe.problems, *told_once(told, recipe.repeats)]
    plan.findings.extend(recipe.plugins.extend_plan(list(plan.steps.values())))
    plan.findings.extend(check_trackers(recipe))
    plan.findings.extend(_check_meeting(plan))
    digests.save()
    return plan


def _reach(recipe: Recipe, names: Sequence[str], next_of: Callable[[StepSpec], Sequence[str]]) -> set[str]:
    found: set[str] = set()
    todo = [*names]
    while todo:
        at = todo.pop()
        if at in recipe.steps and at not in found:
            found.add(at)
            todo.extend(next_of(recipe.steps[at]))
    return found


def _users(recipe: Recipe, name: str) -> list[str]:
    return [other.name for other in recipe.steps.values() if name in other.sources()]


def _block(plan: Plan, step: PlannedStep, start: str) -> None:
    step.status = "blocked"
    if step.name in plan.again:
        step.reason = f"--again asks for it, and --from {start} begins after it"
        plan.findings.append(Finding(step.reason, "Leave one of the two out.", place=step.place))
        return
    step.reason = f"not in the registry, and --from {start} begins after it"
    fix = f"Run without --from, or with --from {step.name}."
    plan.findings.append(Finding(f"{start} needs {step.name}, whose result is not there", fix, place=step.place))


def _plan_step(plan: Plan, spec: StepSpec, wanted: bool) -> None:
    ends = _ends(plan, spec)
    if spec.method is None:
        # Its own problem is told already; what comes after it can still be checked against its kind.
        return
    step = PlannedStep(spec, spec.method)
    plan.steps[spec.name] = step
    if not wanted:
        step.status, step.reason = "skipped", "outside --from and --until"
    unfit: list[Finding] = []
    try:
        facts = {name: [end.facts for end in given] for name, given in (ends or {}).items()}
        unfit = _spread(plan, step, facts)
        needs = (*step.method.requires(facts), *(step.launch.strategy.needs if step.launch else ()))
        step.environment = environment_for(needs, plan.registry.home, step.method.build)
        if ends is not None and _ask_method(plan, step, facts, wanted):
            step.key = plan.key(step)
            _look_up(plan, step)
    except TuneforgeError as error:
        plan.findings.append(replace(error.finding, place=error.finding.place or spec.place))
    except OSError as error:
        if wanted:
            plan.findings.append(_unreadable(error, spec.place))
    except RegistryError:
        raise
    except Exception as error:
        origin = plan.recipe.plugins.origin(spec.kind)
        problem = f"plugin {origin}: {spec.kind.__name__} failed while it was planned: {told(error)}"
        raise PluginError(problem, "That is a bug of the plugin; --debug shows where.", spec.place) from error
    if step.status == "run":  # what is there already was made on another machine, it may be
        plan.findings.extend(unfit)


def _spread(plan: Plan, step: PlannedStep, facts: Known) -> list[Finding]:
    """Finds out how the step is spread over processes, and gives what of that cannot work here."""
    if step.spec.launch is None:
        return []
    plan.hardware = plan.hardware or hardware()
    step.launch, findings = settle(step.spec.launch, step.method, facts, plan.hardware)
    return [replace(finding, place=_place_of_launch(plan, step.spec, finding.field)) for finding in findings]


def _check_meeting(plan: Plan) -> list[Finding]:
    """Other machines wait for the whole run at one place: the first step that would meet elsewhere."""
    places: dict[str, PlannedStep] = {}
    for step in plan.steps.values():
        if step.status == "run" and step.launch and step.launch.nodes > 1 and step.launch.rendezvous:
            places.setdefault(step.launch.rendezvous, step)
    if len(places) < 2:
        return []
    first, last = list(places)[:2]
    place = _place_of_launch(plan, places[last].spec, "rendezvous")
    problem = f"{places[first].name} meets at {first}, and {places[last].name} at {last}"
    return [Finding(problem, "Give all steps of a recipe one rendezvous.", place=place)]


def _unreadable(error: OSError, place: str) -> Finding:
    if error.filename is None:
        return Finding(str(error), place=place)
    problem = f"{error.filename} cannot be read: {error.strerror or error}"
    return Finding(problem, "Name a file or folder that is there.", place=place)


def _ask_method(plan: Plan, step: PlannedStep, facts: Known, wanted: bool) -> bool:
    """Pins the method, and has it check its inputs and foresee its result; whether that found no error."""
    if wanted:
        step.method = step.method.pin()
    findings = list(step.method.check(facts)) if wanted else []
    for finding in findings:
        place = finding.place or _place(plan, step.spec, finding.field)
        plan.findings.append(replace(finding, place=place))
    sound = all(finding.level != "error" for finding in findings)
    kind = step.method.writes({name: [known.kind for known in given] for name, given in facts.items()})
    plan.recipe.plugins.take_kind(kind)
    step.result = Result(kind, step.method.foresee(facts) if sound else Facts(kind))
    return sound


def _look_up(plan: Plan, step: PlannedStep) -> None:
    """Finds out whether the step's result is there already."""
    if step.status == "skipped" and step.key is None:
        return
    waits = [wire for wire in step.spec.sources() if not (end := plan.result(wire)) or end.digest is None]
    digest = plan.registry.result_of(step.key) if step.key else None
    if digest is not None and not receipt_holds(plan.registry, step.method, digest):
        step.reason, digest = "what was published is gone or changed", None
    elif waits:
        step.reason = f"waits for {', '.join(waits)}"
    elif digest is None:
        step.reason = "new, or something it depends on changed"
    if digest is not None and step.name in plan.again:
        step.reason = "asked for with --again"
    elif digest is not None:
        plan.adopt(step, digest)
        if step.status != "skipped":
            step.status, step.reason = "cached", ""


def receipt_holds(registry: Registry, method: Method, digest: str) -> bool:
    """Whether a stored result still stands for the work: for a publication, whether its receipt still holds."""
    if not isinstance(method, Publish):
        return True
    return method.holds(Release(registry.tree(digest), digest))


def _ends(plan: Plan, spec: StepSpec) -> dict[str, list[Result]] | None:
    """What stands at the end of each wire; None when something is not known because it is wrong itself."""
    declared = inputs_of(spec.kind)
    ends: dict[str, list[Result]] = {name: [] for name in declared}
    complete = True
    for name, wires in spec.inputs.items():
        for wire in wires:
            if wire.startswith(REGISTRY) and wire not in plan.references:
                _refer(plan, spec, name, wire)
            end = plan.result(wire) or _kind_alone(plan, wire)
            if end is None:
                complete = False
            elif not declared[name].takes(end.kind):
                complete = False
                fits = [
                    other.name
                    for other in plan.steps.values()
                    if other.result and declared[name].takes(other.result.kind)
                ]
                fix = f"Steps that do: {', '.join(fits)}." if fits else "No step before it does."
                problem = f"{name} takes {declared[name]}, but {wire} gives {end.kind.kind}"
                plan.findings.append(Finding(problem, fix, place=_place_of_input(plan, spec, name)))
            else:
                ends[name].append(end)
    missing = any(wanted.required and not ends[name] for name, wanted in declared.items())
    return ends if complete and not missing else None


def _kind_alone(plan: Plan, wire: str) -> Result | None:
    """A step whose configuration is wrong still has a kind, so that wires to it are checked in the same round.

    None where the kind may hang on the configuration.
    """
    spec = plan.recipe.steps.get(wire)
    if spec is None or wire in plan.steps or spec.kind.writes is not Method.writes:
        return None
    return Result(spec.kind.output, Facts(spec.kind.output))


def _refer(plan: Plan, spec: StepSpec, name: str, wire: str) -> None:
    try:
        digest = plan.registry.resolve(wire.removeprefix(REGISTRY))
        plan.references[wire] = stored(plan.registry, digest, plan.recipe.plugins.kinds)
    except RegistryError as error:
        plan.findings.append(Finding(str(error), error.fix, place=_place_of_input(plan, spec, name)))
    except TuneforgeError as error:
        plan.findings.append(replace(error.finding, place=_place_of_input(plan, spec, name)))


def _place(plan: Plan, spec: StepSpec, option: str) -> str:
    parts = [int(part) if part.isdigit() else part for part in option.split(".")]  # of a list, its entries
    return plan.recipe.document.place(("steps", spec.name, *(("with", *parts) if option else ())))


def _place_of_input(plan: Plan, spec: StepSpec, name: str) -> str:
    return plan.recipe.document.place(("steps", spec.name, name))


def _place_of_launch(plan: Plan, spec: StepSpec, option: str) -> str:
    keys = option.split(".") if option.startswith("with.") else ["launch", *option.split(".")]
    return plan.recipe.document.place(("steps", spec.name, *keys))
