"""`tuneforge registry verify`."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import STEP_FAILED
from .common import json_option, open_registry, print_json, print_text
from .progress import shown


@click.command()
@click.argument("ref", required=False)
@json_option
@click.pass_obj
def verify(obj: dict[str, Any], ref: str | None, as_json: bool) -> None:
    """Hash everything again; say what is damaged, what that touches, and how to mend it.

    With a REF, only that artifact and what it sits on.
    """
    registry = open_registry(obj)
    digest = registry.resolve(ref) if ref else None
    with shown("hashing") as progress:
        damages = registry.verify(progress, digest)
    if as_json:
        print_json([vars(damage) for damage in damages])
        sys.exit(STEP_FAILED if damages else 0)
    for damage in damages:
        touched = ", ".join([*damage.names, *(digest[:12] for digest in damage.artifacts)])
        print_text(f"{damage.path}: {damage.problem}" + (f" (touches {touched})" if touched else ""))
        print_text(f"    {damage.fix}")
    click.echo(f"{len(damages)} damaged" if damages else "everything is as it was committed")
    sys.exit(STEP_FAILED if damages else 0)
