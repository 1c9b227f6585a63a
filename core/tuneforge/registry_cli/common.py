"""What the commands of the registry share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import click

from tuneforge_registry import Registry, Version

from ..home import home_folder
from ..report.texts import shown

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def open_registry(obj: dict[str, Any]) -> Registry:
    """The registry that the command line means."""
    return Registry(home_folder(obj["home"]))


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Columns as wide as their widest cell, without rich, which takes as long to import as the rest of a command."""
    cells = [[cell.replace("\n", " ") if "\n" in cell else cell for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    signs = [">" if name in right else "<" for name in head]
    line = "  ".join(f"{{:{sign}{width}}}" for sign, width in zip(signs, widths, strict=True))
    click.secho(line.format(*head).rstrip(), bold=True)
    if cells:
        print_text("\n".join([line.format(*row).rstrip() for row in cells]))


def minute(moment: datetime) -> str:
    """A moment to the minute, as clocks here show it."""
    quarters, seconds = divmod(int(moment.timestamp()), 900)
    hour, minutes = _quarter(quarters)
    return f"{hour}:{minutes + seconds // 60:02}"


@cache
def _quarter(quarters: int) -> tuple[str, int]:
    """The hour and the minute at which a quarter of an hour begins here: all clocks differ by quarters."""
    at = datetime.fromtimestamp(quarters * 900)
    return f"{at:%Y-%m-%d %H}", at.minute


def print_text(text: str, **style: Any) -> None:
    """A line of what others may have written."""
    click.secho(shown(text), **style)


def version_document(version: Version) -> dict[str, Any]:
    return version._asdict() | {"named": version.named.isoformat()}


def tags_and_note(tags: Sequence[str], note: str) -> str:
    """What is said of a version, on one line."""
    return "  ".join(part for part in (" ".join(f"[{tag}]" for tag in tags), note) if part)
