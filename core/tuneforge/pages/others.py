"""Trackers and speakers as a person or a program reads them, beside methods."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from ..plugins import Plugins
from .options import described_blocks, described_options, summary, tables


def others(plugins: Plugins) -> Iterator[dict[str, Any]]:
    """Everything that trackers and speakers tell of themselves; `stage` is tracker or chat."""
    for name, tracker in plugins.trackers().items():
        yield {
            "stage": "tracker",
            "name": name,
            "plugin": str(plugins.tracker_origin(name)),
            "summary": summary(tracker),
            "doc": inspect.cleandoc(tracker.__doc__ or ""),
            "options": list(described_options(tracker)),
            "blocks": described_blocks(tracker),
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
            "blocks": [],
            "needs": list(speaker.needs),
        }


def others_markdown(plugins: Plugins) -> list[str]:
    """Trackers and speakers on the page of methods."""
    lines: list[str] = []
    heads = {"tracker": "trackers", "chat": "chat"}
    for page in others(plugins):
        if page["stage"] in heads:
            lines += ["", f"## {heads.pop(page['stage'])}"]
        lines += ["", f"### {page['stage']}: {page['name']}", "", page["doc"], *tables(page)]
        if page["needs"]:
            lines += ["", f"Needs {', '.join(f'`{need}`' for need in page['needs'])}."]
    return lines
