"""What stands under `each:` of a step: the ways in which it is repeated, checked against the options of its method."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import permutations
from typing import Any

from ..documents import Keys
from ..hints import options, unknown_option
from ..inputs import inputs_of
from ..stages import Method

_FORM = "each: {learning_rate: [1e-4, 2e-4]}"

Path = tuple[str, ...]
"""An option: `adapter.r` is ("adapter", "r")."""
Say = Callable[[Keys, str, str], None]


@dataclass(frozen=True, eq=False)
class Axis:
    """One way in which a step is repeated: at each point some options have the values, written at the keys."""

    step: str
    points: Sequence[Mapping[Path, tuple[Any, Keys]]]

    @property
    def paths(self) -> list[Path]:
        return list(dict.fromkeys(path for point in self.points for path in point))


def axes_of(step: str, body: Mapping[str, Any], kind: type[Method], say: Say) -> list[Axis]:
    """The axes of a step, as its `each:` tells them: one for every option of a block, in the order in which they are
    written; of a list of blocks, one. What is wrong is said, and left out."""
    return _Each(step, body, kind, say).axes()


class _Each:
    def __init__(self, step: str, body: Mapping[str, Any], kind: type[Method], say: Say) -> None:
        self.step, self.body, self.kind, self.say = step, body, kind, say
        self.keys: Keys = ("steps", step, "each")
        self.known = [path for path, _ in options(kind)]

    def axes(self) -> list[Axis]:
        each = self.body["each"]
        if isinstance(each, dict) and each:
            axes = [axis for path, values, keys in _flat(each, self.keys) if (axis := self._axis(path, values, keys))]
        elif isinstance(each, list) and each and all(isinstance(block, dict) and block for block in each):
            axes = self._blocks(each)
        else:
            fix = f"For example {_FORM}, or a list of blocks with an option or more."
            self.say(self.keys, "each: is a block of options, each with a list of values", fix)
            return []
        return axes if self._apart(axes) else []

    def _axis(self, path: Path, values: Any, keys: Keys) -> Axis | None:
        name = ".".join(path)
        if not self._takes(path, keys):
            return None
        if not isinstance(values, list):
            self.say(keys, f"each: {name} takes a list of values", f"{name}: [{_shown(values)}, ...]")
            return None
        if not values:
            self.say(keys, f"each: {name} has no value", "Write one or more, or take it out.")
            return None
        if (twice := _twice(values)) is not None:
            self.say((*keys, twice), f"each: {name} has {_shown(values[twice])} twice", "Keep one of them.")
            return None
        return Axis(self.step, [{path: (value, (*keys, at))} for at, value in enumerate(values)])

    def _blocks(self, blocks: list[dict[str, Any]]) -> list[Axis]:
        points: list[dict[Path, tuple[Any, Keys]]] = []
        for at, block in enumerate(blocks):
            given = {tuple(name.split(".")): (value, (*self.keys, at, name)) for name, value in block.items()}
            points.append(given)
        wrong = [path for point in points for path, (_, keys) in point.items() if not self._takes(path, keys)]
        if wrong:
            return []
        if (twice := _twice(blocks)) is not None:
            self.say((*self.keys, twice), "each: has this block twice", "Keep one of them.")
            return []
        return [Axis(self.step, points)]

    def _takes(self, path: Path, keys: Keys) -> bool:
        """Whether that is an option of the method, which can be set inside of what `with:` holds."""
        name, config = ".".join(path), self.body.get("with")
        if path not in self.known:
            stage = f"{self.kind.stage}: {self.kind.name}"
            self.say(keys, f"{stage} has no option {name} to repeat", self._near(path))
            return False
        for depth, part in enumerate(path[:-1], 1):
            config = config.get(part) if isinstance(config, dict) else None
            if config is not None and not isinstance(config, dict):
                block = ".".join(path[:depth])
                problem = f"{block} is a plain value in with:, and has no {name} inside"
                self.say(keys, problem, f"Write {block} as a block.")
                return False
        return True

    def _near(self, path: Path) -> str:
        inputs = list(inputs_of(self.kind))
        if path[-1] in inputs:
            return f"{path[-1]} is an input: repeat the step that it is wired to, and this one is repeated with it."
        close = [".".join(known) for known in self.known if known[-len(path) :] == path]
        dotted = get_close_matches(".".join(path), [".".join(known) for known in self.known], 1, 0.7)
        near = close or dotted
        if near:
            return f"Did you mean {near[0]}?"
        return unknown_option(self.kind, f"{self.kind.stage}: {self.kind.name}", path, path, inputs)

    def _apart(self, axes: Sequence[Axis]) -> bool:
        """Whether no option is given twice, nor lies inside of another that is given as a whole."""
        written = [path for axis in axes for path in axis.paths]
        for one, other in permutations(written, 2):
            if other[: len(one)] == one:
                name, inside = ".".join(one), ".".join(other)
                told = f"each: has {name} twice" if name == inside else f"each: {inside} lies inside of {name}"
                self.say(self.keys, told, f"Keep one of them{'' if name == inside else ', or a list of blocks'}.")
                return False
        return True


def _flat(block: Mapping[str, Any], keys: Keys, path: Path = ()) -> Iterator[tuple[Path, Any, Keys]]:
    """The options of a block with what is written for them; `--set` writes a dotted one as blocks inside blocks."""
    for name, value in block.items():
        here = (*path, *name.split("."))
        if isinstance(value, dict) and value:
            yield from _flat(value, (*keys, name), here)
        else:
            yield here, value, (*keys, name)


def as_written(value: Any) -> str:
    """The one way to write a value down, by which equal ones are known: True is not 1."""
    return json.dumps(value, sort_keys=True)


def _twice(values: Sequence[Any]) -> int | None:
    """The place of a value that was there before."""
    seen: set[str] = set()
    for at, value in enumerate(values):
        written = as_written(value)
        if written in seen:
            return at
        seen.add(written)
    return None


def _shown(value: Any) -> str:
    return repr(str(value)) if isinstance(value, str) else as_written(value)
