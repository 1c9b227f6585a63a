"""`tuneforge registry reindex`."""

from __future__ import annotations

import time
from typing import Any

import click

from ..report.figures import duration
from .common import json_option, open_registry, print_json


@click.command()
@json_option
@click.pass_obj
def reindex(obj: dict[str, Any], as_json: bool) -> None:
    """Build the index anew from the files, which are the truth. It is never needed for an answer to be right."""
    registry = open_registry(obj)
    began = time.monotonic()
    registry.reindex()
    seconds = time.monotonic() - began
    found, named = len(registry.artifacts()), len(registry.versions())
    if as_json:
        print_json({"artifacts": found, "versions": named, "seconds": round(seconds, 3)})
    else:
        click.echo(f"{found} artifacts and {named} versions of names indexed in {duration(seconds)}")
