"""`tuneforge registry path`."""

from __future__ import annotations

from typing import Any

import click

from .common import json_option, open_registry, print_json


@click.command()
@click.argument("ref")
@json_option
@click.pass_obj
def path(obj: dict[str, Any], ref: str, as_json: bool) -> None:
    """Print the folder of an artifact, to be read and never written."""
    registry = open_registry(obj)
    digest = registry.resolve(ref)
    folder = registry.tree(digest)
    if as_json:
        print_json({"digest": digest, "path": str(folder)})
    else:
        click.echo(folder)
