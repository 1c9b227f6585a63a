"""What the commands of the registry share."""

from __future__ import annotations

import json
from typing import Any

import click

from tuneforge_registry import Registry

from ..preflight import home_folder

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def open_registry(obj: dict[str, Any]) -> Registry:
    """The registry that the command line means."""
    return Registry(home_folder(obj["home"]))


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
