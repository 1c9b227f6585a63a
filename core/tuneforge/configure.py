"""A block of options as it is written becomes the object of its class; or what is wrong with it is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .hints import allowed_value, nearest, owner, unknown_option, unknown_variant
from .stages import Config

Configured = TypeVar("Configured", bound=Config)

Say = Callable[[Sequence[str | int], str, str], None]
"""Tells a problem with what stands at the given keys of the block, and what to do."""


def configured(
    kind: type[Configured], block: Any, called: str, inside: str, say: Say, others: Sequence[str] = ()
) -> Configured | None:
    """The block as an object of `kind`; None where something is wrong with it, each thing once.

    `called` is what the person knows the block by (`train: sft`), `inside` the key under which it stands. `others` are
    words that belong beside the block: inputs of a method.
    """
    if not isinstance(block, dict):
        say((), f"{inside}: is a block of options", f"{inside}: {{option: value}}")
        return None
    try:
        return kind(**block)
    except ValidationError as error:
        told = set()
        problems = error.errors(include_url=False)
        places = {_written(block, tuple(problem["loc"])) for problem in problems}
        for problem in problems:
            loc: tuple[str | int, ...] = tuple(problem["loc"])
            at: tuple[str | int, ...] = _written(block, loc)
            missing = problem["type"] == "missing"
            # An option that can be of several types is told of by each; the one that has looked into it knows best.
            if (at, missing and loc) in told or (not missing and _beyond(at, places)):
                continue
            told.add((at, missing and loc))
            name = ".".join(str(part) for part in at) or inside
            whose = owner(kind, called, loc)
            if problem["type"] == "extra_forbidden":
                hint = unknown_option(kind, called, loc, [str(part) for part in at], others)
                say(at, f"{whose} has no option {name if whose == called else at[-1]}", hint)
            elif missing:
                path = ".".join((*(str(part) for part in at), str(loc[-1])))
                say(at, f"{whose} needs the option {path}", f"Add {path}: to {inside}:.")
            elif problem["type"] == "union_tag_invalid":
                word = problem["ctx"]["tag"]
                say((*at, "type"), f"{name}: there is no type {word}", unknown_variant(kind, loc, word))
            elif problem["type"] == "union_tag_not_found":
                word = problem["input"]
                fix = f"{name}: {{type: {word}}}" if isinstance(word, str) else unknown_variant(kind, loc, "")
                say(at, f"{name} is a block of options", fix)
            else:
                message = problem["msg"].removeprefix("Value error, ")
                given = problem["input"]
                tail = f", not {given!r}" if isinstance(given, (str, int, float, bool, type(None))) else ""
                say(
                    at,
                    f"{name}: {message[:1].lower()}{message[1:]}{tail}",
                    _nearest(problem) + allowed_value(kind, loc),
                )
        return None


def _beyond(at: tuple[str | int, ...], places: Collection[tuple[str | int, ...]]) -> bool:
    """Whether one of the places lies inside what stands at `at`."""
    return bool(at) and any(len(place) > len(at) and place[: len(at)] == at for place in places)


def _nearest(problem: ErrorDetails) -> str:
    """The word that was meant, where one of several is asked for."""
    if problem["type"] != "literal_error":
        return ""
    near = nearest(str(problem["input"]), re.findall("'([^']*)'", problem["ctx"]["expected"]))
    return f"{near} " if near else ""


def _written(block: Any, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The part of a pydantic location that is written: names of union members are none of it."""
    path: list[str | int] = []
    at: Any = block
    for part in loc:
        inside = part in at if isinstance(at, dict) else isinstance(at, list) and part in range(len(at))
        if inside:
            at = at[part]
            path.append(part)
    return tuple(path)
