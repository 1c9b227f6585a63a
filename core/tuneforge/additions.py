"""A recipe with the steps that its extensions add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tuneforge_registry import Registry, RegistryError

from .artifacts import Artifact
from .configure import configured
from .errors import Finding, PluginError, TuneforgeError
from .extensions import Addition, Wiring
from .inputs import inputs_of
from .plugins import told
from .recipe import REGISTRY, Recipe, StepSpec, ordered
from .stages import Method


def extended(recipe: Recipe, registry: Registry) -> Recipe:
    """The recipe with all additions, each after the step that it is about. Raises PluginError."""
    steps = {name: spec for name, spec in recipe.steps.items() if spec.method is not None}
    kinds = _kinds(recipe, steps, registry)
    added: dict[str, StepSpec] = {}
    into: dict[tuple[str, str], list[str]] = {}
    for name, extension in recipe.extensions.items():
        try:
            additions = [*extension.extend(steps, kinds)]
        except Exception as error:
            raise PluginError(f"the extension {name} failed: {told(error)}", "That is a bug of its plugin.") from error
        for addition in additions:
            if not isinstance(addition, Wiring):
                added[addition.step] = _spec(recipe, name, addition)
            for written in addition.into:
                into.setdefault(written, []).append(addition.step)
    if not added and not into:
        return recipe
    whole: dict[str, StepSpec] = {}
    for spec in recipe.steps.values():
        wires = {given: names for (step, given), names in into.items() if step == spec.name}
        inputs = spec.inputs | {
            given: [*dict.fromkeys([*spec.inputs.get(given, []), *names])] for given, names in wires.items()
        }
        whole[spec.name] = replace(spec, inputs=inputs)
        whole |= {name: one for name, one in added.items() if one.about == spec.name}
    repeats = {name: list(repeated) for name, repeated in recipe.repeats.items()}
    for spec in added.values():
        if spec.of:
            repeats.setdefault(spec.of, []).append(spec.name)
    names = [*recipe.names, *(name for name in (*repeats, *added) if name not in recipe.names)]
    return replace(recipe, steps=ordered(recipe, whole), names=[*dict.fromkeys(names)], repeats=repeats)


def _spec(recipe: Recipe, extension: str, addition: Addition) -> StepSpec:
    """The step of an addition; what is wrong with it is its plugin's fault."""

    def fault(problem: str) -> PluginError:
        return PluginError(f"the extension {extension} adds the step {addition.step}: {problem}")

    about = recipe.steps[addition.of]
    recipe.document.stand_for(("steps", addition.step), ("steps", addition.of))
    found = recipe.plugins.find(addition.stage, addition.method)
    if isinstance(found, Finding):
        raise fault(found.problem)
    problems: list[str] = []
    options = dict(addition.options)
    method = configured(found, options, addition.method, "with", lambda keys, problem, fix: problems.append(problem))
    if method is None:
        raise fault("; ".join(problems))
    return StepSpec(
        addition.step,
        found,
        method,
        {name: [*wires] for name, wires in addition.inputs.items()},
        about.place,
        of=f"{about.of}.{addition.name}" if about.of else "",
        each=about.each,
        added_by=extension,
        about=addition.of,
    )


def _kinds(recipe: Recipe, steps: Mapping[str, StepSpec], registry: Registry) -> dict[str, type[Artifact]]:
    """What steps give, and what artifacts of the registry are. What is wrong with a wire is told elsewhere."""
    kinds: dict[str, type[Artifact]] = {}
    for name, spec in steps.items():
        for wires in spec.inputs.values():
            for wire in wires:
                if wire.startswith(REGISTRY) and wire not in kinds and (found := _stored(recipe, registry, wire)):
                    kinds[wire] = found
        kind = _gives(spec, kinds)
        if kind is not None:
            kinds[name] = kind
    return kinds


def _gives(spec: StepSpec, kinds: Mapping[str, type[Artifact]]) -> type[Artifact] | None:
    declared = inputs_of(spec.kind)
    wired: dict[str, Sequence[type[Artifact]]] = {}
    for name, wanted in declared.items():
        known = [kinds[wire] for wire in spec.inputs.get(name, []) if wire in kinds]
        if len(known) < len(spec.inputs.get(name, [])) or not all(wanted.takes(kind) for kind in known):
            return spec.kind.output if spec.kind.writes is Method.writes else None
        if wanted.required and not known:
            return None
        wired[name] = known
    assert spec.method is not None
    return spec.method.writes(wired)


def _stored(recipe: Recipe, registry: Registry, wire: str) -> type[Artifact] | None:
    try:
        return recipe.plugins.kinds.get(registry.manifest(registry.resolve(wire.removeprefix(REGISTRY))).kind)
    except (RegistryError, TuneforgeError):
        return None
