"""The inputs of a method, read from the signature of its `run`."""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, Union

from .artifacts import Artifact
from .stages import STAGES, Method

RESERVED = frozenset({"with", "as", "each", "launch", "self", *STAGES})


@dataclass(frozen=True)
class Input:
    """One parameter of `run`: which kinds it takes, whether many, and whether it may be left out."""

    name: str
    kinds: tuple[type[Artifact], ...]
    many: bool
    required: bool

    def takes(self, kind: type[Artifact]) -> bool:
        return issubclass(kind, self.kinds)

    def __str__(self) -> str:
        kinds = " or ".join(kind.kind for kind in self.kinds)
        return f"list of {kinds}" if self.many else kinds


@cache
def inputs_of(method: type[Method]) -> dict[str, Input]:
    """The inputs of a method by name. Raises TypeError when its `run` breaks the contract."""
    parameters = list(inspect.signature(method.run).parameters.values())
    names = [parameter.name for parameter in parameters]
    if names[:1] != ["self"] or names[-1:] != ["step"]:
        raise TypeError("run must take self first and step last")
    hints = typing.get_type_hints(method.run)
    inputs = {}
    for parameter in parameters[1:-1]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"run's parameter {parameter.name} must be a plain one")
        if parameter.name in RESERVED:
            raise TypeError(f"run's parameter {parameter.name} bears a name that recipes reserve")
        kinds, many = _kinds(hints.get(parameter.name), parameter.name)
        inputs[parameter.name] = Input(parameter.name, kinds, many, parameter.default is parameter.empty)
    return inputs


def _kinds(hint: Any, name: str) -> tuple[tuple[type[Artifact], ...], bool]:
    if typing.get_origin(hint) is list:
        (inner,) = typing.get_args(hint)
        return _kinds(inner, name)[0], True
    members = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    if any(typing.get_origin(member) is list for member in members):  # list[Report] | None
        (only,) = [member for member in members if member is not type(None)]
        return _kinds(only, name)
    kinds = tuple(member for member in members if member is not type(None))
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, Artifact) for kind in kinds):
        raise TypeError(f"run's parameter {name} must be annotated with artifact kinds, such as `Model | Adapter`")
    return kinds, False
