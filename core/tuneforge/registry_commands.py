"""`tuneforge registry ...`: what was made, how, and whether it is still whole."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table
from rich.tree import Tree

from tuneforge_registry import Registry

from .console import open_console
from .preflight import home_folder
from .report.figures import size
from .report.names import names_of

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def _registry(obj: dict[str, Any]) -> Registry:
    return Registry(home_folder(obj["home"]))


@click.command()
@click.option("--kind", help="Only artifacts of this kind.")
@json_option
@click.pass_obj
def ls(obj: dict[str, Any], kind: str | None, as_json: bool) -> None:
    """List the artifacts, newest first."""
    registry = _registry(obj)
    called = names_of(registry)
    rows = [stored for stored in registry.artifacts() if kind in (None, stored.kind)]
    if as_json:
        document = [
            {**stored._asdict(), "created": stored.created.isoformat(), "names": called.get(stored.digest, [])}
            for stored in rows
        ]
        click.echo(json.dumps(document, indent=2))
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


@click.command()
@click.argument("ref")
@json_option
@click.pass_obj
def show(obj: dict[str, Any], ref: str, as_json: bool) -> None:
    """Show an artifact: its files, names, and the step that made it. REF is a name, name@version or digest."""
    registry = _registry(obj)
    digest = registry.resolve(ref)
    manifest = registry.manifest(digest)
    step = registry.lineage(digest).step
    document = {
        "digest": digest,
        "kind": manifest.kind,
        "base": manifest.base,
        "names": names_of(registry).get(digest, []),
        "files": {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in manifest.files.items()},
        "made_by": dict(step) if step else None,
    }
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    console = open_console()
    console.print(f"[bold]{manifest.kind}[/] {digest}")
    if manifest.base:
        console.print(f"sits on {manifest.base}")
    if document["names"]:
        console.print("called " + ", ".join(names_of(registry)[digest]))
    if step:
        console.print(f"made by step {step['name']} ({step['stage']}: {step['method']}) in {step['seconds']} s")
        if step.get("config"):
            console.print_json(data=step["config"])
        if step.get("metrics"):
            console.print_json(data=step["metrics"])
    for name, entry in manifest.files.items():
        console.print(f"  {size(entry.size):>10}  {entry.sha256[:12]}  {name}")


@click.command()
@click.argument("ref")
@json_option
@click.pass_obj
def lineage(obj: dict[str, Any], ref: str, as_json: bool) -> None:
    """Show how an artifact came to be, as a tree."""
    registry = _registry(obj)
    origin = registry.lineage(registry.resolve(ref))
    if as_json:
        click.echo(json.dumps(_lineage_document(origin), indent=2))
        return
    tree = Tree(_lineage_line(origin))
    _grow(tree, origin)
    open_console().print(tree)


@click.command()
@click.argument("ref")
@click.argument("name")
@click.option("--alias", help="Also move this alias of the name to it, such as production.")
@click.pass_obj
def tag(obj: dict[str, Any], ref: str, name: str, alias: str | None) -> None:
    """Give an artifact a name, as its newest version."""
    registry = _registry(obj)
    version = registry.tag(name, registry.resolve(ref), alias)
    click.echo(f"{name}@v{version}" + (f" @{alias}" if alias else ""))


@click.command()
@click.argument("ref")
@click.pass_obj
def path(obj: dict[str, Any], ref: str) -> None:
    """Print the folder of an artifact, to be read and never written."""
    registry = _registry(obj)
    click.echo(registry.tree(registry.resolve(ref)))


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
