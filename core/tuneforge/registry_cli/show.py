"""`tuneforge registry show`."""

from __future__ import annotations

import json
from typing import Any

import click

from tuneforge_registry import Registry, Score, Version

from ..report.figures import number, size
from .common import json_option, open_registry, print_json, print_text, tags_and_note, version_document


@click.command()
@click.argument("ref")
@json_option
@click.pass_obj
def show(obj: dict[str, Any], ref: str, as_json: bool) -> None:
    """Show an artifact: names, tags, notes, scores, files, and the step that made it.

    REF is a name, name@version, name@alias or digest.
    """
    registry = open_registry(obj)
    digest = registry.resolve(ref)
    manifest = registry.manifest(digest)
    (run, step), versions, scores, users, called = registry.ask(lambda: _known(registry, digest))
    if as_json:
        files = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in manifest.files.items()}
        print_json(
            {
                "digest": digest,
                "kind": manifest.kind,
                "base": manifest.base,
                "size": manifest.size,
                "names": [str(version) for version in versions],
                "versions": [version_document(version) for version in versions],
                "scores": [score._asdict() for score in scores],
                "files": files,
                "run": run,
                "made_by": dict(step) if step else None,
                "users": users,
            }
        )
        return
    click.echo(click.style(manifest.kind, bold=True) + f" {digest}")
    if manifest.base:
        click.echo(f"sits on {manifest.base}")
    for version in versions:
        said = tags_and_note(version.tags, version.note)
        print_text(f"called {version}" + (f"  {said}" if said else ""))
    if step:
        made = f"{step.get('stage')}: {step.get('method')}"
        print_text(f"made by step {step.get('name')} ({made}) in {step.get('seconds')} s, run {run}")
        for block in ("config", "metrics"):
            if step.get(block):
                print_text(f"{block}:\n" + _indented(json.dumps(step[block], indent=2, ensure_ascii=False)))
    for report in dict.fromkeys(score.report for score in scores):
        found = [score for score in scores if score.report == report]
        verdict = "" if found[0].passed else ", which failed"
        figures = "  ".join(f"{score.metric} {number(score.value)}" for score in found)
        print_text(f"scored by {called[report]}{verdict}: {figures}")
    if users:
        more = f" and {len(users) - 8} more" if len(users) > 8 else ""
        print_text("used by " + ", ".join(called[user] for user in users[:8]) + more)
    click.echo(f"{len(manifest.files)} files, {size(manifest.size)}:")
    for name, entry in manifest.files.items():
        print_text(f"  {size(entry.size):>10}  {entry.sha256[:12]}  {name}")


def _known(registry: Registry, digest: str) -> tuple[Any, list[Version], list[Score], list[str], dict[str, str]]:
    """What the index knows of an artifact; and the steps that made those that judge it, or were made of it."""
    scores, users = registry.scores(digest), registry.users(digest)
    called = {}
    for other in {*users, *(score.report for score in scores)}:
        made = registry.made_by(other)
        called[other] = f"{made[0][1]} {other[:12]}" if made else other[:12]
    return registry.origin(digest), registry.versions(digest), scores, users, called


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
