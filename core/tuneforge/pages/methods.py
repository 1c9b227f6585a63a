"""Methods as a person or a program reads them: a list, and a page for each."""

from __future__ import annotations

import inspect
import json
from difflib import get_close_matches
from functools import partial
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from ..console import open_console
from ..errors import RefusedError
from ..inputs import inputs_of
from ..plugins import Plugins
from ..stages import Method
from .options import described_blocks, described_options, summary, told
from .others import others


def describe(plugins: Plugins, method: type[Method]) -> dict[str, Any]:
    """Everything about a method that its signature and docstring tell."""
    return {
        "stage": method.stage,
        "name": method.name,
        "plugin": str(plugins.origin(method)),
        "version": method.version,
        "summary": summary(method),
        "doc": inspect.cleandoc(method.__doc__ or ""),
        "inputs": [
            {"name": wanted.name, "takes": str(wanted), "many": wanted.many, "required": wanted.required}
            for wanted in inputs_of(method).values()
        ],
        "gives": method.output.kind,
        "options": list(described_options(method)),
        "blocks": described_blocks(method),
        "needs": list(method.needs),
        "strategies": [kind.name for kind in method.strategies],
    }


def list_methods(plugins: Plugins, as_json: bool) -> None:
    if as_json:
        pages = [*(describe(plugins, method) for method in plugins), *others(plugins)]
        click.echo(json.dumps(pages, indent=2, default=str))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("method", "takes", "gives", "plugin", "what it does"):
        table.add_column(column)
    for method in plugins:
        takes = ", ".join(f"{wanted.name}{'' if wanted.required else '?'}" for wanted in inputs_of(method).values())
        row = (f"{method.stage}.{method.name}", takes, method.output.kind, str(plugins.origin(method)), summary(method))
        table.add_row(*(escape(cell) for cell in row))
    for page in others(plugins):
        row = (f"{page['stage']}.{page['name']}", "", "", page["plugin"], page["summary"])
        table.add_row(*(escape(cell) for cell in row))
    open_console().print(table)
    open_console().print("\nMore on one: tuneforge plugins STAGE.METHOD", style="dim")


def show_method(plugins: Plugins, wanted: str, as_json: bool) -> None:
    methods = {f"{method.stage}.{method.name}": method for method in plugins}
    known = {name: partial(describe, plugins, method) for name, method in methods.items()}
    known |= {f"{page['stage']}.{page['name']}": partial(dict, page) for page in others(plugins)}
    bare = [name for name in known if name.partition(".")[2] == wanted]
    if wanted not in known and len(bare) == 1:
        (wanted,) = bare
    if wanted not in known:
        near = bare or get_close_matches(wanted, known, 1, 0.5)
        raise RefusedError(
            f"there is no method {wanted}", f"Did you mean {' or '.join(near)}?" if near else "See `tuneforge plugins`."
        )
    page = known[wanted]()
    if as_json:
        click.echo(json.dumps(page, indent=2, default=str))
        return
    console = open_console()
    version = f"version {page['version']}, " if "version" in page else ""
    console.print(f"[bold]{wanted}[/]  {version}{escape(page['plugin'])}\n", highlight=False)
    console.print(page["doc"], markup=False, highlight=False)
    console.print()
    if "inputs" in page:
        console.print("[bold]inputs[/]")
        for given in page["inputs"]:
            optional = "" if given["required"] else " (optional)"
            console.print(f"  {given['name']}: {given['takes']}{optional}", highlight=False)
        console.print(f"[bold]gives[/]\n  {page['gives']}", highlight=False)
    if page["stage"] != "chat":
        inside = "with:" if "inputs" in page else f"{page['name']}:, under {page['stage']}s:"
        console.print(f"[bold]options[/] (inside {inside})")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for option in page["options"]:
        default = "required" if option["required"] else "" if option["type"] == "block" else str(option["default"])
        table.add_row(*(escape(str(cell)) for cell in (option["name"], option["type"], default, told(option))))
    console.print(table)
    if page["blocks"]:
        console.print("[bold]types[/]")
        table = Table(box=None, show_header=False, padding=(0, 2))
        for block in page["blocks"]:
            table.add_row(escape(f"{block['option']}: {block['type']}"), escape(block["summary"]))
        console.print(table)
    if page.get("strategies"):
        console.print(f"[bold]launch:[/] by\n  {', '.join(page['strategies'])}", highlight=False)
    if page["needs"]:
        console.print(f"[bold]needs[/]\n  {escape(', '.join(page['needs']))}", highlight=False)


def signature(method: type[Method]) -> str:
    """A method as a function of artifacts: `sft(model: Model | Adapter, data: ChatData) -> Model`."""
    parameters = []
    for wanted in inputs_of(method).values():
        kinds = " | ".join(kind.__name__ for kind in wanted.kinds)
        kinds = f"list[{kinds}]" if wanted.many else kinds
        parameters.append(f"{wanted.name}: {kinds}" if wanted.required else f"{wanted.name}: {kinds} | None = None")
    return f"{method.name}({', '.join(parameters)}) -> {method.output.__name__}"
