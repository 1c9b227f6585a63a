"""`tuneforge registry path`."""

from __future__ import annotations

from typing import Any

import click

from .common import open_registry


@click.command()
@click.argument("ref")
@click.pass_obj
def path(obj: dict[str, Any], ref: str) -> None:
    """Print the folder of an artifact, to be read and never written."""
    registry = open_registry(obj)
    click.echo(registry.tree(registry.resolve(ref)))
