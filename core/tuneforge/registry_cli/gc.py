"""`tuneforge registry gc`."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import click

from ..report.figures import size
from .common import json_option, open_registry, print_json, print_text
from .progress import shown


@click.command()
@click.option("--yes", is_flag=True, help="Remove it; without this, only tell.")
@click.option("--days", type=click.FloatRange(0), default=1.0, show_default=True, help="Keep what is younger.")
@json_option
@click.pass_obj
def gc(obj: dict[str, Any], yes: bool, days: float, as_json: bool) -> None:
    """Remove what is not named, recent, in use or the base of such."""
    registry = open_registry(obj)
    with shown("removing" if yes else "looking", bytes=False) as progress:
        found = registry.gc(not yes, timedelta(days=days), progress)
    if as_json:
        print_json({"done": yes, "bytes": found.bytes, "garbage": [vars(garbage) for garbage in found.garbage]})
        return
    for garbage in found.garbage:
        if garbage.what == "scratch":
            click.echo(f"scratch {garbage.path}  {size(garbage.bytes)}")
        elif garbage.digest:
            made = [f"step {step} in {run}" for run, step in registry.made_by(garbage.digest)[:1]]
            told = [f"artifact {garbage.digest[:12]}", str(garbage.kind), size(garbage.size or 0), *made]
            print_text("  ".join(told))
    others = Counter(garbage.what for garbage in found.garbage if garbage.what not in ("artifact", "scratch"))
    if others:
        click.echo(", ".join(f"{count} {what}{'s' * (count > 1)}" for what, count in others.items()))
    verb = "removed" if yes else "would remove"
    click.echo(f"{verb} {len(found.garbage)} things, {size(found.bytes)}" + ("" if yes else "; --yes does it"))
