"""`each:` on a step: it is repeated for each value of an option, and so is what depends on it.

A recipe is expanded before anything is read of its steps: a repeat is a step like any other, so planning, keys and runs
know nothing of it. It is named after what sets it apart: `sft@r=4`, and `merged@r=4` which is made of it; of more
options `sft@r=4+learning_rate=1e-4`. Such a name is fit for files, shells and `--from`; no written step can bear it,
since theirs hold no `@`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from itertools import combinations, product
from typing import Any

from ..documents import Document, Keys
from ..errors import Finding
from ..inputs import inputs_of
from ..plugins import Plugins
from ..stages import STAGES, Method, Publish
from .axes import Axis, Path, as_written, axes_of

_MOST = 1000  # repeats of a step; far more than anyone waits for, and few enough to be planned at once
_WORD = 40  # characters of one value in a name
_SUFFIX = 100  # of all that is said after the step's own name: with `.progress.jsonl` it must still be a file's name
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Repeat:
    """A step to be read: `body` as if it had been written so, under `name`. `step` is the written one's name.

    `each` holds the values that set it apart from the others, by what they are called in its name; none for a step
    that is not repeated.
    """

    name: str
    step: str
    body: Any
    each: Mapping[str, Any] = field(default_factory=dict)


_Choice = Mapping[Axis, int]
"""At which point of each axis a repeat stands."""


def expand(document: Document, plugins: Plugins) -> tuple[list[Repeat], list[Finding]]:
    """All steps of a recipe with their repeats, in the order in which they are written; and what is wrong with `each`.

    A step has the axes of its own `each`, and those of the steps that its single inputs are wired to: it stands at
    the same points as they do. An input that takes a list collects all repeats that stand where its own step does.
    """
    return _Expansion(document, plugins).expand()


def told_once(told: Iterable[tuple[Finding, str]], repeats: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Findings, each with the step it is about: what holds for all repeats once, the rest with their names."""
    step_of = {name: step for step, names in repeats.items() for name in names}
    about: dict[tuple[Finding, str], list[str]] = {}
    for finding, name in told:
        about.setdefault((finding, step_of.get(name, "")), []).append(name)
    for (finding, step), names in about.items():
        some = step and len(set(names)) < len(repeats[step])
        if some and not any(name in finding.problem for name in names):
            finding = replace(finding, problem=f"{finding.problem} (in {', '.join(names)})")
        yield finding


def overwriting(step: str, methods: Sequence[Method | None], wires: Sequence[str]) -> tuple[str, str] | None:
    """Problem and fix where repeats of a step would publish to one place, each over the one before."""
    given = [method for method in methods if isinstance(method, Publish)]
    if not any(one == other for one, other in combinations(given, 2)):
        return None
    fix = f"Publish one of them: wire it to {wires[0]}, for example." if wires else "Take out each:."
    return f"{step} is repeated {len(given)} times, and each would overwrite what the one before published", fix


class _Expansion:
    def __init__(self, document: Document, plugins: Plugins) -> None:
        self.document = document
        self.steps: dict[str, Any] = document.data["steps"]
        self.problems: list[Finding] = []
        self.kinds = {name: kind for name, body in self.steps.items() if (kind := _kind(plugins, body))}
        self.own = {name: self._own(name) for name in self.steps}
        self.axes: dict[str, list[Axis]] = {}
        for name in self._in_order():
            self.axes[name] = self._meeting(name)
        self.called = _called(
            [[(axis.step, path) for axis in axes for path in axis.paths] for axes in self.axes.values()]
        )
        self.texts = {axis: self._texts(axis) for axes in self.axes.values() for axis in axes}
        self.repeats: dict[str, list[tuple[str, _Choice]]] = {name: [(name, {})] for name in self.steps}

    def expand(self) -> tuple[list[Repeat], list[Finding]]:
        for name, axes in self.axes.items():
            choices = [dict(zip(axes, at, strict=True)) for at in product(*(range(len(axis.points)) for axis in axes))]
            self.repeats[name] = [(name + self._suffix(choice), choice) for choice in choices]
        return [self._repeat(name, *one) for name in self.steps for one in self.repeats[name]], self.problems

    def _own(self, name: str) -> list[Axis]:
        body = self.steps[name]
        if not isinstance(body, dict) or "each" not in body or name not in self.kinds:
            return []
        return axes_of(name, body, self.kinds[name], self._say)

    def _in_order(self) -> Iterator[str]:
        """Steps after those they are wired to. Those in a circle, and after one, are not among them."""
        sorter = TopologicalSorter({name: self._sources(name) for name in self.steps})
        with suppress(CycleError):
            sorter.prepare()
        while ready := sorter.get_ready():
            yield from ready
            sorter.done(*ready)

    def _meeting(self, name: str) -> list[Axis]:
        """The axes of a step: of all that its single inputs are wired to, then its own."""
        inherited = [axis for source in self._sources(name, many=False) for axis in self.axes[source]]
        axes = [*dict.fromkeys(inherited), *self.own[name]]
        count = math.prod(len(axis.points) for axis in axes)
        if count <= _MOST:
            return axes
        fix = f"At most {_MOST} can be planned at once: take values out."
        self._say(("steps", name), f"{name} would be repeated {count} times", fix)
        return []

    def _sources(self, name: str, many: bool | None = None) -> list[str]:
        """The steps that the inputs of a step are wired to: all of them, or those of inputs that take many, or one."""
        found: list[str] = []
        for wanted in inputs_of(self.kinds[name]).values() if name in self.kinds else ():
            if many in (None, wanted.many):
                wires = self.steps[name].get(wanted.name)
                # `sft@r=4` is made of sft, but that one is chosen already.
                known = [_written(wire) if many is None else wire for wire in _listed(wires)]
                found += [wire for wire in known if wire in self.steps]
        return found

    def _suffix(self, choice: _Choice) -> str:
        if not choice:
            return ""
        suffix = "+".join(self.texts[axis][at] for axis, at in choice.items())
        if len(suffix) > _SUFFIX:
            suffix = f"{suffix[: _SUFFIX - 9]}-{hashlib.sha256(suffix.encode()).hexdigest()[:8]}"
        return f"@{suffix}"

    def _texts(self, axis: Axis) -> list[str]:
        """What each point of an axis is called: `r=4`."""
        words: list[dict[Path, str]] = [{} for _ in axis.points]
        for path in axis.paths:
            given = {at: as_written(point[path][0]) for at, point in enumerate(axis.points) if path in point}
            apart = {written: axis.points[at][path][0] for at, written in given.items()}
            called = dict(zip(apart, _words(list(apart.values())), strict=True))
            for at, written in given.items():
                words[at][path] = called[written]
        return ["+".join(f"{self.called[axis.step, path]}={word[path]}" for path in word) for word in words]

    def _repeat(self, step: str, name: str, choice: _Choice) -> Repeat:
        body = self.steps[step]
        if not isinstance(body, dict):
            return Repeat(name, step, body)
        body = {key: value for key, value in body.items() if key != "each"}
        if name != step:
            self.document.stand_for(("steps", name), ("steps", step))
        for axis in self.own[step] if choice else ():
            for path, (value, keys) in axis.points[choice[axis]].items():
                body["with"] = _put(body.get("with"), path, value)
                self.document.stand_for(("steps", name, "with", *path), keys)
        for wanted in inputs_of(self.kinds[step]).values() if step in self.kinds else ():
            if wanted.name in body:
                body[wanted.name] = self._wires(body[wanted.name], choice, wanted.many)
        label = body.get("as")
        if choice and isinstance(label, str):
            body["as"] = self._label(step, label, name)
        each = {
            self.called[axis.step, path]: value
            for axis, at in choice.items()
            for path, (value, _) in axis.points[at].items()
        }
        return Repeat(name, step, body, each)

    def _wires(self, value: Any, choice: _Choice, many: bool) -> Any:
        if not many:
            found = self._meant(value, choice) if isinstance(value, str) else [value]
            return found[0] if len(found) == 1 else value
        if not isinstance(value, (str, list)):
            return value
        items = value if isinstance(value, list) else [value]
        return [found for item in items for found in (self._meant(item, choice) if isinstance(item, str) else [item])]

    def _meant(self, wire: str, choice: _Choice) -> list[str]:
        """The repeats of a step that stand where `choice` does, as far as they have the same axes."""
        if wire not in self.repeats:
            return [wire]
        return [
            name
            for name, other in self.repeats[wire]
            if all(at == choice[axis] for axis, at in other.items() if axis in choice)
        ]

    def _label(self, step: str, label: str, name: str) -> str:
        """A name for the registry that is this repeat's alone: `pupil` is `pupil-r-4`."""
        namespace, slash, own = label.rpartition("/")
        labels: list[str] = []
        for other, _ in self.repeats[step]:
            words = re.sub(r"[^a-z0-9._-]+", "-", other.removeprefix(step).lower()).strip("-")
            labels.append(_other_than(labels, f"{own}-{words}"[:100]))
            if other == name:
                break
        return f"{namespace}{slash}{labels[-1]}"

    def _say(self, keys: Keys, problem: str, fix: str) -> None:
        self.problems.append(Finding(problem, fix, place=self.document.place(keys)))


def _kind(plugins: Plugins, body: Any) -> type[Method] | None:
    """The method of a step, where it names one that is there; what is wrong otherwise is told when it is read."""
    stages = [key for key in body if key in STAGES] if isinstance(body, dict) else []
    if len(stages) != 1 or not isinstance(body[stages[0]], str):
        return None
    found = plugins.find(stages[0], str(body[stages[0]]))
    return None if isinstance(found, Finding) else found


def _put(config: Any, path: Path, value: Any) -> Any:
    """The configuration with the option set; what is no block is left for others to refuse."""
    if config is not None and not isinstance(config, dict):
        return config
    block = dict(config or {})
    block[path[0]] = value if len(path) == 1 else _put(block.get(path[0]), path[1:], value)
    return block


def _called(meeting: Iterable[Sequence[tuple[str, Path]]]) -> dict[tuple[str, Path], str]:
    """Each option by the shortest end of `step.block.option` that no other has with which it meets in some step."""
    met: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for options in meeting:
        whole = [(step, *path) for step, path in options]
        for full in whole:
            met.setdefault(full, set()).update(whole)
    called = {}
    for full, others in met.items():
        ends = (full[-length:] for length in range(1, len(full)))
        unique = (end for end in ends if sum(other[-len(end) :] == end for other in others) == 1)
        called[full[0], full[1:]] = ".".join(next(unique, full))
    return called


def _words(values: Sequence[Any]) -> list[str]:
    """A word for each value of an option, no two alike on any file system; of paths the last part, where that does."""
    short = [
        word_of(str(value).rstrip("/").rpartition("/")[2] if isinstance(value, str) else value) for value in values
    ]
    alike = len({word.lower() for word in short}) < len(short)
    words: list[str] = []
    for word in [word_of(value) for value in values] if alike else short:
        words.append(_other_than(words, word))
    return words


def word_of(value: Any) -> str:
    """A value as it stands in a name."""
    match value:
        case bool() | None:
            return str(value).lower() if value is not None else "null"
        case float():
            return f"{Decimal(repr(value)).normalize():e}" if 0 < abs(value) < 1e-3 else repr(value).replace("+", "")
        case int():
            return str(value)[:_WORD]
        case dict() | list():
            inner = value.values() if isinstance(value, dict) else value
            return "-".join(word_of(one) for one in inner)[:_WORD] or "none"
    return _UNFIT.sub("-", str(value))[:_WORD].strip("-") or "none"


def _other_than(taken: Sequence[str], word: str) -> str:
    """The word, with a number behind it if it is taken already."""
    used = {other.lower() for other in taken}
    number, found = 1, word
    while found.lower() in used:
        number += 1
        found = f"{word[: 99 - len(str(number))]}-{number}"
    return found


def _listed(wires: Any) -> list[str]:
    return [wire for wire in (wires if isinstance(wires, list) else [wires]) if isinstance(wire, str)]


def _written(wire: str) -> str:
    return wire.partition("@")[0]
