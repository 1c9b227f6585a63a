"""The nearest right thing: for a misspelt option, and for an option called as another tool calls it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .stages import Config


def options(block: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every option of a block and of the blocks inside it, with its dotted path as a tuple."""
    for name, info in block.model_fields.items():
        yield (*path, name), info
        for inner in blocks_in(info.annotation):
            yield from options(inner, (*path, name))


def blocks_in(annotation: Any) -> list[type[BaseModel]]:
    """The configuration blocks that a type annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [block for part in typing.get_args(annotation) for block in blocks_in(part)]


def unknown_option(method: type[Config], called: str, keys: Sequence[str | int], inputs: Sequence[str]) -> str:
    """What to write instead of the unknown option at `keys` (its last part is the word that is unknown).

    `called` is what the person knows the block by, and `inputs` are those of the method that it configures.
    """
    word = str(keys[-1])
    inside = tuple(str(key) for key in keys[:-1] if isinstance(key, str))
    if word in inputs:
        return f"{word} is an input of the step: write it beside with:, not inside."
    known = list(options(method))
    here = [path for path, _ in known if path[:-1] == inside] or [path for path, _ in known if len(path) == 1]
    for path, info in known:
        extra = info.json_schema_extra
        also = extra.get("also", []) if isinstance(extra, dict) else []
        if isinstance(also, list) and word in also:
            return f"It is called {'.'.join(path)} here."
    for path, _ in known:
        if path[-1] == word:
            return f"It belongs elsewhere: {'.'.join(path)}."
    close = get_close_matches(word, [path[-1] for path in here], 1, 0.6)
    if close:
        return f"Did you mean {close[0]}?"
    names = ", ".join(path[-1] for path in here)
    return f"{called} knows: {names}." if names else f"{called} has no options."


def allowed_value(method: type[Config], loc: Sequence[str | int]) -> str:
    """What the option at a pydantic location takes; names of union members in the location are passed over."""
    words = [part for part in loc if isinstance(part, str)]
    for path, info in sorted(options(method), key=lambda known: -len(known[0])):
        rest = iter(words)
        if all(part in rest for part in path):
            return f"{'.'.join(path)} takes {value_type(info)}: {info.description}"
    return ""


def type_name(annotation: Any) -> str:
    """A type as a person writes it."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is type(None):
        return "None"
    if origin is typing.Annotated:
        return type_name(parts[0])
    if origin is typing.Literal:
        return " | ".join(str(part) for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(type_name(part) for part in parts))
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if part is ... else type_name(part) for part in parts)}]"
    if isinstance(annotation, type):
        return "block" if issubclass(annotation, BaseModel) else annotation.__name__
    return str(annotation)


def value_type(info: FieldInfo) -> str:
    """The type of an option, with the limits of its value."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [
        f"{sign} {limit:g}"
        for part in info.metadata
        for name, sign in signs.items()
        if (limit := getattr(part, name, None)) is not None
    ]
    named = type_name(info.annotation)
    bare = named.removesuffix(" | None")
    return " ".join([bare, ", ".join(limits)]).rstrip() + named[len(bare) :]
