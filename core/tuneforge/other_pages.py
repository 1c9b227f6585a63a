"""Trackers and speakers as a person or a program reads them, beside methods."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .hints import options, value_type
from .plugins import Plugins


def others(plugins: Plugins) -> Iterator[dict[str, Any]]:
    """Everything that trackers and speakers tell of themselves; `stage` is tracker or chat."""
    for name, tracker in plugins.trackers().items():
        yield {
            "stage": "tracker",
            "name": name,
            "plugin": str(plugins.tracker_origin(name)),
            "summary": summary(tracker),
            "doc": inspect.cleandoc(tracker.__doc__ or ""),
            "options": described_options(tracker),
            "needs": list(tracker.needs),
        }
    for kind, speaker in plugins.speakers().items():
        yield {
            "stage": "chat",
            "name": kind,
            "plugin": str(plugins.speaker_origin(kind)),
            "summary": summary(speaker),
            "doc": inspect.cleandoc(speaker.__doc__ or ""),
            "options": [],
            "needs": list(speaker.needs),
        }


def described_options(block: type[BaseModel]) -> list[dict[str, Any]]:
    """Every option of a block as its field tells it."""
    return [
        {
            "name": ".".join(path),
            "type": value_type(info),
            "required": info.is_required(),
            "default": _default(info),
            "description": info.description,
        }
        for path, info in options(block)
    ]


def option_table(described: list[dict[str, Any]]) -> list[str]:
    """Options as a table of Markdown; nothing where there are none."""
    lines = ["", "| option | type | default | |", "|---|---|---|---|"] if described else []
    for option in described:
        default = f"`{json.dumps(option['default'], default=str)}`"
        default = "required" if option["required"] else "" if option["type"] == "block" else default
        cells = (f"`{option['name']}`", f"`{option['type']}`", default, option["description"])
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def others_markdown(plugins: Plugins) -> list[str]:
    """Trackers and speakers on the page of methods."""
    lines: list[str] = []
    heads = {"tracker": "trackers", "chat": "chat"}
    for page in others(plugins):
        if page["stage"] in heads:
            lines += ["", f"## {heads.pop(page['stage'])}"]
        lines += ["", f"### {page['stage']}: {page['name']}", "", page["doc"], *option_table(page["options"])]
        if page["needs"]:
            lines += ["", f"Needs {', '.join(f'`{need}`' for need in page['needs'])}."]
    return lines


def summary(offered: type) -> str:
    """The first paragraph of a class's documentation, on one line."""
    return " ".join(inspect.cleandoc(offered.__doc__ or "").split("\n\n")[0].split())


def _default(info: FieldInfo) -> Any:
    value = info.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value.model_dump() if isinstance(value, BaseModel) else value
