"""The options of a method, a tracker or a block as a person or a program reads them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ..hints import blocks_in, options, value_type, variants


def described_options(block: type[BaseModel], inside: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The options of a block and of those in it, as their fields tell them.

    Of blocks that stand for each other, what they share is told once; `of` names those that have an option, where not
    all do.
    """
    for name, info in block.model_fields.items():
        path = (*inside, name)
        yield _option(path, info)
        kinds = variants(info)
        if not kinds:
            for inner in blocks_in(info.annotation):
                yield from described_options(inner, path)
            continue
        tags = [kind.model_fields["type"] for kind in kinds.values()]
        default = next((kind for kind, info in zip(kinds, tags, strict=True) if not info.is_required()), None)
        yield _option((*path, "type"), tags[0]) | {
            "type": " | ".join(kinds),
            "required": default is None,
            "default": default,
        }
        shared: dict[str, dict[str, Any]] = {}
        for kind, inner in kinds.items():
            for option in described_options(inner, path):
                if option["name"] != ".".join((*path, "type")):
                    known = shared.setdefault(json.dumps(option, default=str), option)
                    known["of"] = [*known["of"], kind]
        for option in shared.values():
            yield option | {"of": [] if len(option["of"]) == len(kinds) else option["of"]}


def described_blocks(block: type[BaseModel]) -> list[dict[str, Any]]:
    """The blocks that can stand in an option's place, each with what it is."""
    return [
        {
            "option": ".".join(path),
            "type": kind,
            "summary": summary(inner),
            "doc": inspect.cleandoc(inner.__doc__ or ""),
        }
        for path, info in options(block)
        for kind, inner in variants(info).items()
    ]


def tables(page: Mapping[str, Any]) -> list[str]:
    """The options of a page as a table of Markdown, and the blocks among them; nothing where there are none."""
    lines = ["", "| option | type | default | |", "|---|---|---|---|"] if page["options"] else []
    for option in page["options"]:
        default = f"`{json.dumps(option['default'], default=str)}`"
        default = "required" if option["required"] else "" if option["type"] == "block" else default
        cells = (f"`{option['name']}`", f"`{option['type']}`", default, told(option))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    if page["blocks"]:
        lines += ["", "| type | |", "|---|---|"]
    for block in page["blocks"]:
        lines.append(f"| `{block['option']}: {{type: {block['type']}}}` | {' '.join(block['doc'].split())} |")
    return lines


def told(option: Mapping[str, Any]) -> str:
    """What an option is, and which of the blocks that stand for each other have it."""
    return f"{', '.join(option['of'])}: {option['description']}" if option["of"] else str(option["description"])


def summary(offered: type) -> str:
    """The first paragraph of a class's documentation, on one line."""
    return " ".join(inspect.cleandoc(offered.__doc__ or "").split("\n\n")[0].split())


def _option(path: tuple[str, ...], info: FieldInfo) -> dict[str, Any]:
    return {
        "name": ".".join(path),
        "type": value_type(info),
        "required": info.is_required(),
        "default": _default(info),
        "description": info.description,
        "of": [],
    }


def _default(info: FieldInfo) -> Any:
    value = info.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value.model_dump() if isinstance(value, BaseModel) else value
