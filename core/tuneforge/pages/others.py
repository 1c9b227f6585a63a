"""Trackers, extensions, speakers and servers as a person or a program reads them, beside methods."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from ..offered import Origin
from ..plugins import Plugins
from ..stages import Config
from .options import described_blocks, described_options, summary, tables


def others(plugins: Plugins) -> Iterator[dict[str, Any]]:
    """Everything that they tell of themselves; `stage` is tracker, extension, chat or server."""
    for name, tracker in plugins.trackers:
        yield _named("tracker", name, tracker, plugins.trackers.origin(name)) | {"needs": list(tracker.needs)}
    for name, extension in plugins.extensions:
        yield _named("extension", name, extension, plugins.extensions.origin(name)) | {"needs": []}
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
    for name, server in plugins.servers:
        yield _named("server", name, server, plugins.servers.origin(name)) | {"needs": list(server.needs)}


def _named(what: str, name: str, kind: type[Config], origin: Origin) -> dict[str, Any]:
    return {
        "stage": what,
        "name": name,
        "plugin": str(origin),
        "summary": summary(kind),
        "doc": inspect.cleandoc(kind.__doc__ or ""),
        "options": list(described_options(kind)),
        "blocks": described_blocks(kind),
    }


def others_markdown(plugins: Plugins) -> list[str]:
    """Trackers, extensions, speakers and servers on the page of methods."""
    lines: list[str] = []
    heads = {"tracker": "trackers", "extension": "extensions", "chat": "chat", "server": "servers"}
    for page in others(plugins):
        if page["stage"] in heads:
            lines += ["", f"## {heads.pop(page['stage'])}"]
        lines += ["", f"### {page['stage']}: {page['name']}", "", page["doc"], *tables(page)]
        if page["needs"]:
            lines += ["", f"Needs {', '.join(f'`{need}`' for need in page['needs'])}."]
    return lines
