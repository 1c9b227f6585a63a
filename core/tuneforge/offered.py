"""What plugins offer under names beside methods: trackers, extensions and servers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

from packaging.requirements import InvalidRequirement, Requirement

from .errors import Finding, PluginError
from .stages import Config

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
Named = TypeVar("Named", bound=Config)


@dataclass(frozen=True)
class Origin:
    """Where a method comes from: an installed distribution, or code that a recipe points at."""

    plugin: str
    version: str = ""
    source: Path | None = None
    """Local code, a file or package folder: its content counts for the key of every step that uses it."""
    file: Path | None = None
    """The same, when it is no importable module but a path to import from."""

    def __str__(self) -> str:
        return f"{self.plugin} {self.version}".rstrip()


class Offered(Generic[Named]):
    """Classes below `base` by name. `what` is how one is called, `example` how a recipe configures it, if it does.

    Each must have a `name`, a docstring, and its own form of the method `must`.
    """

    def __init__(self, base: type[Named], what: str, must: str, example: str) -> None:
        self.base = base
        self.what = what
        self.must = must
        self.example = example
        self._known: dict[str, tuple[type[Named], Origin]] = {}

    def __iter__(self) -> Iterator[tuple[str, type[Named]]]:
        return iter((name, kind) for name, (kind, _) in sorted(self._known.items()))

    def origin(self, name: str) -> Origin:
        return self._known[name][1]

    def add(self, classes: Sequence[Any], origin: Origin, place: str) -> None:
        """Takes what a plugin offers. Raises PluginError for what breaks the contract."""
        for kind in classes:
            problem = self._broken(kind)
            if not problem:
                known, owner = self._known.setdefault(kind.name, (kind, origin))
                problem = "" if known is kind else f"the {self.what} {kind.name} is already offered by {owner}"
            if problem:
                raise PluginError(f"plugin {origin}: {problem}", place=place)

    def find(self, name: str) -> type[Named] | Finding:
        """The class of that name; else what to tell the person who wrote it."""
        if name in self._known:
            return self._known[name][0]
        near = get_close_matches(name, self._known, 1, 0.6)
        offered = ", ".join(sorted(self._known)) or "none"
        fix = f"Did you mean {near[0]}?" if near else f"There are: {offered}. Install the package that offers {name}."
        article = "an" if self.what[0] in "aeiou" else "a"
        return Finding(f"no installed plugin offers {article} {self.what} {name}", fix)

    def _broken(self, kind: object) -> str:
        """How an offered class breaks the contract; empty when it does not."""
        if not (inspect.isclass(kind) and issubclass(kind, self.base)):
            return f"register_{self.what} offers {kind!r}, which is no subclass of {self.base.__name__}"
        name = getattr(kind, "name", "")
        if not NAME.fullmatch(name):
            return f"{kind.__name__}.name is {name!r}; use small letters, digits, - and _"
        if not kind.__dict__.get("__doc__"):
            return f"{kind.__name__} has no docstring, which is its documentation"
        if "<locals>" in kind.__qualname__:
            return f"{kind.__name__} is made inside a function, where another process cannot find it"
        if getattr(kind, self.must) is getattr(self.base, self.must):
            return f"{kind.__name__} has no {self.must}"
        try:
            for need in getattr(kind, "needs", ()):
                Requirement(need)
        except InvalidRequirement as error:
            return f"{kind.__name__}: {error}"
        return broken_options(kind, self.base)


def broken_options(offered: type[Config], base: type[Config]) -> str:
    """Which option of a class breaks the contract, and how; empty when none does."""
    for field, info in offered.model_fields.items():
        if hasattr(base, field):
            return f"{offered.__name__}.{field}: the name belongs to {base.__name__}"
        if not info.description:
            return f"{offered.__name__}.{field} has no description"
        if info.alias or info.validation_alias:
            return f"{offered.__name__}.{field} has an alias; name the field as recipes shall call it"
    return ""
