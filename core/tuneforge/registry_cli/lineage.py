"""`tuneforge registry lineage`."""

from __future__ import annotations

from typing import Any

import click
from rich.tree import Tree

from ..console import open_console
from .common import json_option, open_registry, print_json


@click.command()
@click.argument("ref")
@json_option
@click.pass_obj
def lineage(obj: dict[str, Any], ref: str, as_json: bool) -> None:
    """Show how an artifact came to be, as a tree."""
    registry = open_registry(obj)
    origin = registry.lineage(registry.resolve(ref))
    if as_json:
        print_json(_lineage_document(origin))
        return
    tree = Tree(_lineage_line(origin))
    _grow(tree, origin)
    open_console().print(tree)


def _lineage_line(at: Any) -> str:
    made = f"{at.step['name']} ({at.step['stage']}: {at.step['method']})  " if at.step else ""
    return f"{made}[cyan]{at.kind or 'unknown'}[/] {at.digest[:12]}"


def _grow(tree: Tree, at: Any) -> None:
    for name, sources in at.inputs.items():
        for source in sources:
            _grow(tree.add(f"[dim]{name}:[/] {_lineage_line(source)}"), source)
    if at.base:
        _grow(tree.add(f"[dim]base:[/] {_lineage_line(at.base)}"), at.base)


def _lineage_document(at: Any) -> dict[str, Any]:
    return {
        "digest": at.digest,
        "kind": at.kind,
        "run": at.run,
        "step": dict(at.step) if at.step else None,
        "inputs": {name: [_lineage_document(source) for source in sources] for name, sources in at.inputs.items()},
        "base": _lineage_document(at.base) if at.base else None,
    }
