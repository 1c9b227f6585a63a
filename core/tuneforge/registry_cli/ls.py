"""`tuneforge registry ls`."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from ..console import open_console
from ..report.figures import size
from ..report.names import names_of
from .common import json_option, open_registry, print_json


@click.command()
@click.option("--kind", help="Only artifacts of this kind.")
@json_option
@click.pass_obj
def ls(obj: dict[str, Any], kind: str | None, as_json: bool) -> None:
    """List the artifacts, newest first."""
    registry = open_registry(obj)
    called = names_of(registry)
    rows = [stored for stored in registry.artifacts() if kind in (None, stored.kind)]
    if as_json:
        document = [
            {**stored._asdict(), "created": stored.created.isoformat(), "names": called.get(stored.digest, [])}
            for stored in rows
        ]
        print_json(document)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("digest", "kind", "size", "made", "made by", "names"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for stored in rows:
        made = registry.made_by(stored.digest)
        run, step = made[0] if made else ("", "")
        table.add_row(
            stored.digest[:12],
            stored.kind,
            size(stored.size),
            f"{stored.created.astimezone():%Y-%m-%d %H:%M}",
            f"{step} in {run}" if made else "",
            ", ".join(called.get(stored.digest, [])),
        )
    open_console().print(table)
