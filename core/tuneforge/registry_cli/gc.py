"""`tuneforge registry gc`."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import click

from ..report.figures import size
from .common import open_registry
from .progress import shown


@click.command()
@click.option("--yes", is_flag=True, help="Remove it; without this, only tell.")
@click.option("--days", type=click.FloatRange(0), default=1.0, show_default=True, help="Keep what is younger.")
@click.pass_obj
def gc(obj: dict[str, Any], yes: bool, days: float) -> None:
    """Remove what is not named, recent, in use or the base of such."""
    registry = open_registry(obj)
    with shown("removing" if yes else "looking", bytes=False) as progress:
        found = registry.gc(not yes, timedelta(days=days), progress)
    for garbage in found.garbage:
        if garbage.what == "scratch":
            click.echo(f"scratch {garbage.path}  {size(garbage.bytes)}")
        elif manifest := garbage.manifest:
            made = [f"step {step} in {run}" for run, step in registry.made_by(manifest.digest)[:1]]
            click.echo("  ".join([f"artifact {manifest.digest[:12]}", manifest.kind, size(manifest.size), *made]))
    others = Counter(garbage.what for garbage in found.garbage if garbage.what not in ("artifact", "scratch"))
    if others:
        click.echo(", ".join(f"{count} {what}{'s' * (count > 1)}" for what, count in others.items()))
    verb = "removed" if yes else "would remove"
    click.echo(f"{verb} {len(found.garbage)} things, {size(found.bytes)}" + ("" if yes else "; --yes does it"))
