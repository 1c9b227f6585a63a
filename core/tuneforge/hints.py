"""The nearest right thing: for a misspelt option, and for an option called as another tool calls it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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


def tag(block: type[BaseModel]) -> str:
    """The word by which a block is told from others that may stand in its place: `type: dora`. Empty without one."""
    info = block.model_fields.get("type")
    words = typing.get_args(info.annotation) if info and typing.get_origin(info.annotation) is typing.Literal else ()
    return str(words[0]) if len(words) == 1 else ""


def variants(info: FieldInfo) -> dict[str, type[BaseModel]]:
    """The blocks of which an option takes one, by their tags; empty where there are not several."""
    blocks = blocks_in(info.annotation)
    return {tag(block): block for block in blocks if tag(block)} if len(blocks) > 1 else {}


@dataclass(frozen=True)
class Located:
    """Where a pydantic location leads: the innermost block, its path and tag, and the option, if it names one."""

    block: type[BaseModel]
    inside: tuple[str, ...] = ()
    tag: str = ""
    option: tuple[tuple[str, ...], FieldInfo] | None = None


def locate(method: type[Config], loc: Sequence[str | int]) -> Located:
    """Follows a pydantic location; names of union members in it choose the block, where they are tags."""
    at, choices = Located(method), dict[str, type[BaseModel]]()
    path: tuple[str, ...] = ()
    for part in loc:
        if part in choices:
            at, choices = Located(choices[str(part)], path, str(part)), {}
        elif isinstance(part, str) and part in at.block.model_fields:
            info = at.block.model_fields[part]
            path = (*at.inside, part)
            inner = blocks_in(info.annotation)
            choices = variants(info)
            at = replace(at, option=(path, info))
            if len(inner) == 1:
                at = replace(at, block=inner[0], inside=path, tag="")
    return at


def owner(method: type[Config], called: str, loc: Sequence[str | int]) -> str:
    """What has the options at a pydantic location: `called`, or `adapter: dora` where that block was chosen."""
    at = locate(method, loc[:-1])
    return f"{'.'.join(at.inside)}: {at.tag}" if at.tag else called


def unknown_option(
    method: type[Config], called: str, loc: Sequence[str | int], keys: Sequence[str], inputs: Sequence[str]
) -> str:
    """What to write instead of an unknown option: `keys` is its path as written, `loc` its location for pydantic.

    `called` is what the person knows the block by, and `inputs` are those of the method that it configures.
    """
    word = keys[-1]
    if word in inputs:
        return f"{word} is an input of the step: write it beside with:, not inside."
    known = list(options(method))
    at = locate(method, loc[:-1])
    own = [((*at.inside, name), info) for name, info in at.block.model_fields.items()]
    for path, info in (*own, *known):
        if word in _also(info):
            only = typing.get_args(info.annotation) if path[-1] == "type" else ()
            if len(only) == 1:
                return f"Write {'.'.join(path[:-1])}: {{type: {only[0]}}}."
            return f"It is called {'.'.join(path)} here."
    for path, _ in known:
        if path[-1] == word and path[:-1] != at.inside:
            return f"It belongs elsewhere: {'.'.join(path)}."
    names = [path[-1] for path, _ in own]
    if near := nearest(word, names):
        return near
    if at.tag:
        outer = locate(method, at.inside)
        kinds = variants(outer.option[1]) if outer.option else {}
        others = [kind for kind, block in kinds.items() if word in block.model_fields]
        told = f"It is an option of {', '.join(others)}; " if others else ""
        return f"{told}{at.tag} knows: {', '.join(names)}."
    return f"{called} knows: {', '.join(names)}." if names else f"{called} has no options."


def unknown_variant(method: type[Config], loc: Sequence[str | int], word: object) -> str:
    """What to write instead of a tag that no block has."""
    at = locate(method, loc)
    kinds = variants(at.option[1]) if at.option else {}
    for kind, block in kinds.items():
        if word in _also(block.model_fields["type"]):
            return f"It is called {kind} here."
    return nearest(str(word), kinds) or f"There are: {', '.join(kinds)}."


def nearest(word: str, known: Iterable[str]) -> str:
    """What was probably meant; empty where nothing is near."""
    close = get_close_matches(word, [*known], 1, 0.6)
    return f"Did you mean {close[0]}?" if close else ""


def _also(info: FieldInfo) -> list[Any]:
    extra = info.json_schema_extra
    also = extra.get("also", []) if isinstance(extra, dict) else []
    return also if isinstance(also, list) else []


def allowed_value(method: type[Config], loc: Sequence[str | int]) -> str:
    """What the option at a pydantic location takes."""
    option = locate(method, loc).option
    if option is None:
        return ""
    path, info = option
    return f"{'.'.join(path)} takes {value_type(info)}: {info.description}"


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
