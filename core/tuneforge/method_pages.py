"""Methods as a person or a program reads them: a list, and a page for each."""

from __future__ import annotations

import inspect
import json
from difflib import get_close_matches
from typing import Any

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich.markup import escape
from rich.table import Table

from .console import open_console
from .errors import RefusedError
from .hints import options
from .inputs import inputs_of
from .plugins import Plugins
from .stages import Method


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
                "type": type_name(info.annotation),
                "required": info.is_required(),
                "default": _default(info),
                "description": info.description,
            }
            for path, info in options(method)
        ],
        "needs": list(method.needs),
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
        default = "required" if option["required"] else str(option["default"])
        table.add_row(*(escape(str(cell)) for cell in (option["name"], option["type"], default, option["description"])))
    console.print(table)
    if page["needs"]:
        console.print(f"[bold]needs[/]\n  {escape(', '.join(page['needs']))}", highlight=False)


def type_name(annotation: Any) -> str:
    """A type as a person writes it."""
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return "block" if issubclass(annotation, BaseModel) else annotation.__name__
    text = str(annotation).replace("typing.", "").replace("pathlib.", "").replace("NoneType", "None")
    if "BeforeValidator" in text:
        text = "Path | None" if "None" in text else "Path"
    return text if "<class" not in text and "tuneforge" not in text else " | ".join(_members(annotation))


def _members(annotation: Any) -> list[str]:
    import typing

    return ["None" if part is type(None) else type_name(part) for part in typing.get_args(annotation)]


def _default(info: Any) -> Any:
    value = info.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value
