"""`tuneforge registry tag`."""

from __future__ import annotations

from typing import Any

import click

from .common import open_registry


@click.command()
@click.argument("ref")
@click.argument("name")
@click.option("--alias", help="Also move this alias of the name to it, such as production.")
@click.pass_obj
def tag(obj: dict[str, Any], ref: str, name: str, alias: str | None) -> None:
    """Give an artifact a name, as its newest version. NAME may be in a namespace, as in team/orders."""
    registry = open_registry(obj)
    version = registry.tag(name, registry.resolve(ref), alias)
    click.echo(f"{name}@v{version}" + (f" @{alias}" if alias else ""))
