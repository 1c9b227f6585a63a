"""Methods as a person or a program reads them: a list, and a page for each."""

from __future__ import annotations

import inspect
import json
from difflib import get_close_matches
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.markup import escape
from rich.table import Table

from .console import open_console
from .errors import RefusedError
from .hints import options, value_type
from .inputs import inputs_of
from .plugins import Plugins
from .stages import STAGES, Method


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
        "options": [
            {
                "name": ".".join(path),
                "type": value_type(info),
                "required": info.is_required(),
                "default": _default(info),
                "description": info.description,
            }
            for path, info in options(method)
        ],
        "needs": list(method.needs),
        "strategies": [kind.name for kind in method.strategies],
    }


def summary(method: type[Method]) -> str:
    """The first paragraph of a method's documentation, on one line."""
    return " ".join(inspect.cleandoc(method.__doc__ or "").split("\n\n")[0].split())


def list_methods(plugins: Plugins, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([describe(plugins, method) for method in plugins], indent=2, default=str))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("method", "takes", "gives", "plugin", "what it does"):
        table.add_column(column)
    for method in plugins:
        takes = ", ".join(f"{wanted.name}{'' if wanted.required else '?'}" for wanted in inputs_of(method).values())
        row = (f"{method.stage}.{method.name}", takes, method.output.kind, str(plugins.origin(method)), summary(method))
        table.add_row(*(escape(cell) for cell in row))
    open_console().print(table)
    open_console().print("\nMore on one: tuneforge plugins STAGE.METHOD", style="dim")


def show_method(plugins: Plugins, wanted: str, as_json: bool) -> None:
    known = {f"{method.stage}.{method.name}": method for method in plugins}
    bare = [name for name in known if name.partition(".")[2] == wanted]
    if wanted not in known and len(bare) == 1:
        (wanted,) = bare
    if wanted not in known:
        near = bare or get_close_matches(wanted, known, 1, 0.5)
        raise RefusedError(
            f"there is no method {wanted}", f"Did you mean {' or '.join(near)}?" if near else "See `tuneforge plugins`."
        )
    page = describe(plugins, known[wanted])
    if as_json:
        click.echo(json.dumps(page, indent=2, default=str))
        return
    console = open_console()
    console.print(f"[bold]{wanted}[/]  version {page['version']}, {escape(page['plugin'])}\n", highlight=False)
    console.print(page["doc"], markup=False, highlight=False)
    console.print("\n[bold]inputs[/]")
    for given in page["inputs"]:
        console.print(
            f"  {given['name']}: {given['takes']}{'' if given['required'] else ' (optional)'}", highlight=False
        )
    console.print(f"[bold]gives[/]\n  {page['gives']}", highlight=False)
    console.print("[bold]options[/] (inside with:)")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for option in page["options"]:
        default = "required" if option["required"] else "" if option["type"] == "block" else str(option["default"])
        table.add_row(*(escape(str(cell)) for cell in (option["name"], option["type"], default, option["description"])))
    console.print(table)
    if page["strategies"]:
        console.print(f"[bold]launch:[/] by\n  {', '.join(page['strategies'])}", highlight=False)
    if page["needs"]:
        console.print(f"[bold]needs[/]\n  {escape(', '.join(page['needs']))}", highlight=False)


def methods_markdown(plugins: Plugins) -> str:
    """Every method with its inputs, options and needs: a page of documentation."""
    lines = ["# Methods", "", "Written by `tuneforge plugins --markdown`: to change this page, change the methods."]
    for stage in STAGES:
        methods = [method for method in plugins if method.stage == stage]
        lines += ["", f"## {stage}"] if methods else []
        for method in methods:
            page = describe(plugins, method)
            lines += ["", f"### {stage}: {method.name}", "", page["doc"], ""]
            lines += ["```python", signature(method), "```"]
            if page["options"]:
                lines += ["", "| option | type | default | |", "|---|---|---|---|"]
            for option in page["options"]:
                default = f"`{json.dumps(option['default'], default=str)}`"
                default = "required" if option["required"] else "" if option["type"] == "block" else default
                cells = (f"`{option['name']}`", f"`{option['type']}`", default, option["description"])
                lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
            if method.strategies:
                names = ", ".join(f"`{name}`" for name in page["strategies"])
                lines += ["", f"Can be launched on several processes by {names}: see [launch.md](launch.md)."]
            if method.needs:
                lines += ["", f"Needs {', '.join(f'`{need}`' for need in method.needs)}."]
    return "\n".join(lines) + "\n"


def signature(method: type[Method]) -> str:
    """A method as a function of artifacts: `sft(model: Model | Adapter, data: ChatData) -> Model`."""
    parameters = []
    for wanted in inputs_of(method).values():
        kinds = " | ".join(kind.__name__ for kind in wanted.kinds)
        kinds = f"list[{kinds}]" if wanted.many else kinds
        parameters.append(f"{wanted.name}: {kinds}" if wanted.required else f"{wanted.name}: {kinds} | None = None")
    return f"{method.name}({', '.join(parameters)}) -> {method.output.__name__}"


def _default(info: FieldInfo) -> Any:
    value = info.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value.model_dump() if isinstance(value, BaseModel) else value
