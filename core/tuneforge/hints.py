"""The nearest right thing: for a misspelt option, and for an option called as another tool calls it."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .stages import Method


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


def unknown_option(method: type[Method], keys: Sequence[str | int], inputs: Sequence[str]) -> str:
    """What to write instead of the unknown option at `keys` (its last part is the word that is unknown)."""
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
    return f"{method.stage}: {method.name} knows: {names}." if names else f"{method.name} has no options."
