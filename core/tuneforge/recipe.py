"""A YAML file becomes a checked recipe: every problem at once, each with its place and the nearest right thing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from .configure import Say, configured
from .documents import Document
from .errors import Finding, PluginError, RefusedError
from .extensions import Extension
from .inputs import inputs_of
from .launch.options import Asked, read_launch
from .offered import Named, Offered
from .plugins import Plugins
from .stages import STAGES, Method
from .sweeps.repeats import expand, overwriting, told_once
from .trackers import Tracker

STEP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
RELEASE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_TOP = ("name", "description", "seed", "vars", "plugins", "trackers", "extensions", "steps")
REGISTRY = "registry:"


@dataclass(frozen=True)
class StepSpec:
    """One step as written: its configured method, and per input the names it is wired to.

    `method` is None when its configuration is wrong; then `problems` of the recipe say why.
    """

    name: str
    kind: type[Method]
    method: Method | None
    inputs: dict[str, list[str]]
    place: str
    label: str | None = None
    given: tuple[tuple[str, ...], ...] = ()
    """Dotted paths of the options that are written, to tell those that no one read."""
    launch: Asked | None = None
    of: str = ""
    """For a repeat, the step that it repeats; and the values that set it apart from the others."""
    each: Mapping[str, Any] = field(default_factory=dict)
    added_by: str = ""
    """For a step that is not written: the extension that added it, and the written step that it is about."""
    about: str = ""

    def marks(self) -> dict[str, Any]:
        """What records say of a repeat and of an added step; nothing of any other."""
        repeat: dict[str, Any] = {"of": self.of, "each": dict(self.each)} if self.of else {}
        return repeat | ({"added_by": self.added_by} if self.added_by else {})

    def sources(self) -> list[str]:
        """The steps this one is wired to."""
        return [name for names in self.inputs.values() for name in names if not name.startswith(REGISTRY)]


@dataclass
class Recipe:
    """A recipe, its steps in an order in which they can be carried out."""

    document: Document
    plugins: Plugins
    name: str = ""
    seed: int = 0
    steps: dict[str, StepSpec] = field(default_factory=dict)
    trackers: dict[str, Tracker] = field(default_factory=dict)
    """What a run of it is to be told to, by name."""
    extensions: dict[str, Extension] = field(default_factory=dict)
    """What adds steps to it, by name."""
    problems: list[Finding] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of all steps as they are written, wrong ones included, and of their repeats."""
    repeats: dict[str, list[str]] = field(default_factory=dict)
    """The names of the repeats of those steps that are repeated."""

    def called(self, name: str) -> list[str]:
        """The steps that a name means: of a repeated step all its repeats."""
        return self.repeats.get(name, [name])


def find_recipe(name: str) -> Path:
    """A recipe by its path, or by its name among the shipped ones."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = {recipe.stem: recipe for folder in recipe_folders() for recipe in sorted(folder.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise RefusedError(f"there is no recipe {name}", _near(path.stem, list(shipped)), place=name)
    raise RefusedError(f"there is no recipe called {name}", _near(name, list(shipped)), place="command line")


def recipe_folders() -> list[Path]:
    """Where shipped recipes lie: inside an installed package, or beside core/ in a checkout."""
    here = Path(__file__).parent
    return [folder for folder in (here / "recipes", here.parents[1] / "recipes") if folder.is_dir()]


def read_recipe(
    path: Path, settings: Sequence[str] = (), plugins: Plugins | None = None, launch: Sequence[str] = ()
) -> Recipe:
    """Reads a recipe with its overrides. What is wrong is in `problems`; the steps that are right are there.

    `launch` are `key=value` for `launch:` of every step that can be launched.
    """
    try:
        document = Document(path)
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"cannot be read: {error}", place=str(path)) from error
    for setting in settings:
        document.override(setting)
    document.substitute()
    recipe = Recipe(document, plugins or Plugins(), problems=document.problems)
    data = document.data
    if not isinstance(data, dict):
        if not recipe.problems:
            _say(recipe, (), "a recipe is a block of keys", "Begin with name: and steps:.")
        return recipe
    for key in data:
        if key not in _TOP:
            hint = _near(key, list(_TOP))
            if key in STAGES:
                hint = f"A step goes under steps:, as `{key}: ...` inside a named step."
            _say(recipe, (key,), f"a recipe has no key {key}", hint)
    _read_head(recipe, data)
    recipe.trackers = _read_named(recipe, data, "trackers", recipe.plugins.trackers)
    recipe.extensions = _read_named(recipe, data, "extensions", recipe.plugins.extensions)
    for name, extension in recipe.plugins.extensions:
        if name not in (data.get("extensions") or {}):
            recipe.extensions[name] = extension()
    steps = data.get("steps")
    if not isinstance(steps, dict) or not steps:
        _say(recipe, ("steps",), "a recipe needs steps", "steps: {base: {load_model: builtin}}")
        return recipe
    for name in steps:
        if not STEP_NAME.fullmatch(name):
            _say(recipe, ("steps", name), f"{name!r} is no name for a step", "Use letters, digits, - and _.")
    if launch:
        _launch_all(recipe, steps, launch)
    recipe.steps = ordered(recipe, _read_steps(recipe))
    return recipe


def _read_steps(recipe: Recipe) -> dict[str, StepSpec]:
    expanded, problems = expand(recipe.document, recipe.plugins)
    for repeat in expanded:
        if repeat.name != repeat.step:
            recipe.repeats.setdefault(repeat.step, []).append(repeat.name)
    recipe.names = list(dict.fromkeys(name for repeat in expanded for name in (repeat.step, repeat.name)))
    specs: dict[str, StepSpec] = {}
    before, told = recipe.problems, list[tuple[Finding, str]]()
    for repeat in expanded:
        recipe.problems = []
        spec = _read_step(recipe, repeat.name, repeat.body, recipe.names)
        told += [(problem, repeat.name) for problem in recipe.problems]
        if spec:
            specs[repeat.name] = replace(spec, of=repeat.step, each=repeat.each) if repeat.each else spec
    recipe.problems = before
    recipe.problems += [*problems, *told_once(told, recipe.repeats)]
    for step, names in recipe.repeats.items():
        known = [specs[name] for name in names if name in specs]
        wires = [wire for spec in known for wire in spec.sources()]
        if said := overwriting(step, [spec.method for spec in known], wires):
            _say(recipe, ("steps", step), *said)
    return specs


def _launch_all(recipe: Recipe, steps: dict[str, Any], settings: Sequence[str]) -> None:
    able = []
    for name, body in steps.items():
        for stage in STAGES:
            named = body.get(stage) if isinstance(body, dict) else None
            found = recipe.plugins.find(stage, str(named)) if isinstance(named, str) else None
            if isinstance(found, type) and found.strategies:
                able.append(name)
    if not able:
        recipe.problems.append(
            Finding(
                "no step of this recipe can be launched on several processes", "Leave --launch out.", place="--launch"
            )
        )
    for name in able:
        for setting in settings:
            recipe.document.override(f"steps.{name}.launch.{setting}")


def _read_head(recipe: Recipe, data: dict[str, Any]) -> None:
    name = data.get("name", recipe.document.path.stem)
    if isinstance(name, str) and name:
        recipe.name = str(name)
    else:
        _say(recipe, ("name",), "name must be a word", "")
    if not isinstance(data.get("description", ""), str):
        _say(recipe, ("description",), "description must be a text", "")
    seed = data.get("seed", 0)
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**31:
        recipe.seed = seed
    else:
        _say(recipe, ("seed",), f"seed must be a whole number from 0 to 2147483647, not {seed!r}", "")
    local = data.get("plugins", [])
    if not isinstance(local, list) or not all(isinstance(reference, str) for reference in local):
        _say(recipe, ("plugins",), "plugins must be a list of files or modules", "plugins: [my_method.py]")
        return
    for index, reference in enumerate(local):
        folder = reference.mark.folder
        try:
            recipe.plugins.load_local(reference, folder, recipe.document.place(("plugins", index)))
        except PluginError as error:
            recipe.problems.extend(error.findings)


def _read_named(recipe: Recipe, data: dict[str, Any], key: str, offered: Offered[Named]) -> dict[str, Named]:
    """The objects of a block that maps names to options, such as trackers; those in it that are right."""
    block, found = data.get(key), dict[str, Named]()
    if not isinstance(block, (dict, type(None))):
        _say(recipe, (key,), f"{key} must map names to options", f"{key}: {{{offered.example}}}")
        return found
    for name, config in (block or {}).items():
        if config is False:  # by --set, to leave one of the recipe's out
            continue
        keys = (key, name)
        kind = offered.find(name)
        if isinstance(kind, Finding):
            _say(recipe, keys, kind.problem, kind.fix)
        elif not isinstance(config, (dict, type(None))):
            _say(recipe, keys, f"{name} is a block of options", f"{name}: {{}}, or {name}: false to leave it out")
        elif one := configured(kind, config or {}, f"{offered.what} {name}", name, _sayer(recipe, keys)):
            found[name] = one
    return found


def _read_step(recipe: Recipe, name: str, body: Any, names: list[str]) -> StepSpec | None:
    keys: tuple[str | int, ...] = ("steps", name)
    if not isinstance(body, dict):
        _say(recipe, keys, "a step is a block of keys", f"{name}: {{load_model: builtin}}")
        return None
    stages = [key for key in body if key in STAGES]
    if len(stages) != 1:
        if stages:
            _say(recipe, keys, f"a step has one stage, this one has {' and '.join(stages)}", "Make two steps of it.")
        else:
            near = next((hit for key in body for hit in get_close_matches(key, list(STAGES), 1, 0.75)), None)
            fix = f"Did you mean {near}?" if near else f"Name one of {', '.join(STAGES)}."
            _say(recipe, keys, "no stage is named", fix)
        return None
    stage = stages[0]
    if not isinstance(body[stage], str):
        _say(recipe, (*keys, stage), f"{stage} takes the name of a method", "`tuneforge plugins` lists them.")
        return None
    found = recipe.plugins.find(stage, str(body[stage]))
    if isinstance(found, Finding):
        _say(recipe, (*keys, stage), found.problem, found.fix)
        return None
    inputs = _read_inputs(recipe, keys, body, found, stage, names)
    label = body.get("as")
    if label is not None and not (isinstance(label, str) and RELEASE_NAME.fullmatch(label)):
        _say(recipe, (*keys, "as"), f"{label!r} is no name for the registry", "Use small letters, digits, . _ and -.")
        label = None
    config = body.get("with")
    called, options = f"{stage}: {found.name}", {} if config is None else config
    say = _sayer(recipe, (*keys, "with"))
    method = configured(found, options, called, "with", say, list(inputs_of(found)))
    given = tuple(_leaves(config)) if isinstance(config, dict) else ()
    launch = None
    if "launch" in body:
        launch = read_launch(found, body["launch"], _sayer(recipe, (*keys, "launch")))
    return StepSpec(name, found, method, inputs, recipe.document.place(keys), label and str(label), given, launch)


def _read_inputs(
    recipe: Recipe,
    keys: tuple[str | int, ...],
    body: dict[str, Any],
    method: type[Method],
    stage: str,
    names: list[str],
) -> dict[str, list[str]]:
    declared = inputs_of(method)
    inputs: dict[str, list[str]] = {}
    for key, value in body.items():
        if key in (stage, "with", "as", "launch"):
            continue
        if key not in declared:
            if key in method.model_fields:
                hint = f"{key} is an option: write it inside with:."
            else:
                hint = _near(key, [*declared, "with", "as", "each", "launch"])
            _say(recipe, (*keys, key), f"{stage}: {method.name} has no input {key}", hint)
            continue
        many = declared[key].many
        values = value if isinstance(value, list) and many else [value]
        if not all(isinstance(item, str) for item in values) or not values:
            _say(recipe, (*keys, key), f"{key} takes {'a list of step names' if many else 'the name of a step'}", "")
            continue
        inputs[key] = [str(item) for item in values]
        for item in values:
            if not item.startswith(REGISTRY) and item not in names:
                _say(recipe, (*keys, key), f"there is no step {item}", _near(item, names))
    for name, wanted in declared.items():
        if wanted.required and name not in body:
            _say(recipe, keys, f"{stage}: {method.name} needs the input {name} ({wanted})", f"Add {name}: <a step>.")
    return inputs


def _leaves(config: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in config.items():
        found.extend(_leaves(value, (*path, key)) if isinstance(value, dict) and value else [(*path, key)])
    return found


def ordered(recipe: Recipe, specs: dict[str, StepSpec]) -> dict[str, StepSpec]:
    """The steps so that each comes after what it waits for, otherwise as they are; without those of a circle."""
    try:
        graph = {name: [source for source in spec.sources() if source in specs] for name, spec in specs.items()}
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        problem = f"steps wait for each other: {' -> '.join(circle)}"
        _say(recipe, ("steps", circle[0]), problem, "Take one wire out.")
        return ordered(recipe, {name: spec for name, spec in specs.items() if name not in circle})
    found: dict[str, StepSpec] = {}

    def take(name: str) -> None:  # as written, but for what a step waits for
        if name in found:
            return
        for source in graph[name]:
            take(source)
        found[name] = specs[name]

    for name in specs:
        take(name)
    return found


def _near(word: str, names: Sequence[str]) -> str:
    close = get_close_matches(word, names, 1, 0.6)
    return f"Did you mean {close[0]}?" if close else f"There are: {', '.join(names)}."


def _sayer(recipe: Recipe, keys: Sequence[str | int]) -> Say:
    """Says what is wrong inside of the block at `keys`."""
    return lambda inner, problem, fix: _say(recipe, (*keys, *inner), problem, fix)


def _say(recipe: Recipe, keys: Sequence[str | int], problem: str, fix: str) -> None:
    recipe.problems.append(Finding(problem, fix, place=recipe.document.place(keys)))
