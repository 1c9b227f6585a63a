"""`tuneforge registry verify`."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..console import open_console
from ..errors import STEP_FAILED
from .common import json_option, open_registry, print_json


@click.command()
@json_option
@click.pass_obj
def verify(obj: dict[str, Any], as_json: bool) -> None:
    """Hash everything again; say what is damaged, and which artifacts and names that touches."""
    from rich.progress import Progress

    with Progress(console=open_console(stderr=True), transient=True) as progress:
        task = progress.add_task("hashing", total=None)
        damages = open_registry(obj).verify(lambda done, total: progress.update(task, completed=done, total=total))
    if as_json:
        print_json([vars(damage) for damage in damages])
        sys.exit(STEP_FAILED if damages else 0)
    for damage in damages:
        touched = ", ".join([*damage.names, *(digest[:12] for digest in damage.artifacts)])
        click.echo(f"{damage.path}: {damage.problem}" + (f" (touches {touched})" if touched else ""))
        click.echo(f"    {damage.fix}")
    click.echo(f"{len(damages)} damaged" if damages else "everything is as it was committed")
    sys.exit(STEP_FAILED if damages else 0)
