"""`tuneforge registry show`."""

from __future__ import annotations

from typing import Any

import click

from ..console import open_console
from ..report.figures import size
from ..report.names import names_of
from .common import json_option, open_registry, print_json


@click.command()
@click.argument("ref")
@json_option
@click.pass_obj
def show(obj: dict[str, Any], ref: str, as_json: bool) -> None:
    """Show an artifact: its files, names, and the step that made it. REF is a name, name@version or digest."""
    registry = open_registry(obj)
    digest = registry.resolve(ref)
    manifest = registry.manifest(digest)
    step = registry.lineage(digest).step
    document = {
        "digest": digest,
        "kind": manifest.kind,
        "base": manifest.base,
        "names": names_of(registry).get(digest, []),
        "files": {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in manifest.files.items()},
        "made_by": dict(step) if step else None,
    }
    if as_json:
        print_json(document)
        return
    console = open_console()
    console.print(f"[bold]{manifest.kind}[/] {digest}")
    if manifest.base:
        console.print(f"sits on {manifest.base}")
    if document["names"]:
        console.print("called " + ", ".join(names_of(registry)[digest]))
    if step:
        console.print(f"made by step {step['name']} ({step['stage']}: {step['method']}) in {step['seconds']} s")
        if step.get("config"):
            console.print_json(data=step["config"])
        if step.get("metrics"):
            console.print_json(data=step["metrics"])
    for name, entry in manifest.files.items():
        console.print(f"  {size(entry.size):>10}  {entry.sha256[:12]}  {name}")
