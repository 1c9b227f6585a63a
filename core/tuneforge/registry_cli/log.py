"""`tuneforge registry log`."""

from __future__ import annotations

from typing import Any

import click

from tuneforge_registry import Registry, Version

from ..report.figures import number
from .common import json_option, minute, open_registry, print_json, print_table, tags_and_note, version_document

_FIGURES = 4  # of a report, in the list


@click.command()
@click.argument("name")
@json_option
@click.pass_obj
def log(obj: dict[str, Any], name: str, as_json: bool) -> None:
    """Tell the history of a name: its versions, newest first, when and by which run each was made, and its scores."""
    registry = open_registry(obj)
    registry.resolve(name)
    told = registry.ask(lambda: [(version, *_told(registry, version)) for version in _versions(registry, name)])
    if as_json:
        print_json([version_document(version) | made | {"scores": scores} for version, made, scores in told])
        return
    rows = [
        (
            f"v{version.number}",
            version.digest[:12],
            minute(version.named),
            f"{made['step']} in {made['run']}" if made["run"] else "",
            " ".join(f"@{alias}" for alias in version.aliases),
            "  ".join(f"{metric} {number(value)}" for metric, value in list(scores.items())[:_FIGURES]),
            tags_and_note(version.tags, version.note),
        )
        for version, made, scores in told
    ]
    print_table(("version", "digest", "named", "made by", "aliases", "scores", "said of it"), rows)


def _versions(registry: Registry, name: str) -> list[Version]:
    return [version for version in reversed(registry.versions()) if version.name == name.partition("@")[0]]


def _told(registry: Registry, version: Version) -> tuple[dict[str, Any], dict[str, float]]:
    run, step = registry.origin(version.digest)
    scores: dict[str, float] = {}
    for score in registry.scores(version.digest):
        scores.setdefault(score.metric, score.value)
    return {"run": run, "step": step.get("name") if step else None}, scores
