"""`tuneforge registry gc`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from ..report.figures import size
from .common import json_option, open_registry, print_json


@click.command()
@click.option("--yes", is_flag=True, help="Remove it; without this, only tell.")
@click.option("--days", type=click.FloatRange(0), default=1.0, show_default=True, help="Keep what is younger.")
@json_option
@click.pass_obj
def gc(obj: dict[str, Any], yes: bool, days: float, as_json: bool) -> None:
    """Remove what is not named, recent, in use or the base of such."""
    found = open_registry(obj).gc(not yes, timedelta(days=days))
    if as_json:
        print_json({"done": yes, "bytes": found.bytes, "garbage": [vars(garbage) for garbage in found.garbage]})
        return
    for garbage in found.garbage:
        if garbage.what in ("artifact", "scratch"):
            click.echo(f"{garbage.what} {garbage.path}")
    verb = "removed" if yes else "would remove"
    click.echo(f"{verb} {len(found.garbage)} things, {size(found.bytes)}" + ("" if yes else "; --yes does it"))
