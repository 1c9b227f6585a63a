"""`tuneforge registry diff`."""

from __future__ import annotations

from typing import Any

import click

from ..report.figures import change, number, size
from ..report.texts import as_text
from .common import json_option, open_registry, print_json, print_table, print_text


@click.command()
@click.argument("a")
@click.argument("b")
@json_option
@click.pass_obj
def diff(obj: dict[str, Any], a: str, b: str, as_json: bool) -> None:
    """Tell in what two artifacts differ: recipe, parameters, data, packages, scores and files.

    A and B are names, name@version, name@alias or digests. What they have in common is not told.
    """
    from .compare import compared

    registry = open_registry(obj)
    found = compared(registry, registry.resolve(a), registry.resolve(b))
    if as_json:
        print_json(found)
        return
    for ref, side in ((a, found["a"]), (b, found["b"])):
        print_text(f"{ref}: {side['kind']} {side['digest'][:12]}" + (f", run {side['run']}" if side["run"] else ""))
    if found["a"]["digest"] == found["b"]["digest"]:
        click.echo("they are the same artifact")
    for title, rows in (
        ("steps", [(row["step"], _told(row["a"]), _told(row["b"])) for row in found["steps"]]),
        ("parameters", [(f"{row['step']}.{row['option']}", *_both(row)) for row in found["parameters"]]),
        ("data", [(row["step"], _data(row["a"]), _data(row["b"])) for row in found["data"]]),
        ("packages", [(f"{row['environment']}: {row['package']}", *_both(row)) for row in found["packages"]]),
        ("scores", [(row["metric"], _score(row["a"]), _score(row["b"], row["a"])) for row in found["scores"]]),
        ("files", [(row["path"], _file(row["a"]), _file(row["b"])) for row in found["files"]]),
    ):
        if rows:
            click.echo()
            print_table((title, a, b), rows)
    if found["recipe"]:
        click.secho("\nrecipe", bold=True)
        for line in found["recipe"]:
            print_text(line, fg={"+": "green", "-": "red"}.get(line[:1]))


def _both(row: dict[str, Any]) -> tuple[str, str]:
    return _told(row["a"]), _told(row["b"])


def _told(value: Any) -> str:
    return "none" if value is None else as_text(value)


def _data(side: dict[str, Any] | None) -> str:
    if side is None:
        return "none"
    rows = ", ".join(f"{name} {as_text(value)}" for name, value in side["figures"].items())
    return f"{side['digest'][:12]}" + (f" ({rows})" if rows else "")


def _score(value: float | None, before: float | None = None) -> str:
    if value is None:
        return "none"
    return number(value) + (f" ({change(value - before)})" if before is not None else "")


def _file(entry: dict[str, Any] | None) -> str:
    return f"{entry['sha256'][:12]} {size(entry['size'])}" if entry else "none"
