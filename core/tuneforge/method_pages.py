"""Methods as a person or a program reads them: a list, and a page for each."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
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
from .hints import blocks_in, options, value_type, variants
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
        "options": list(_options(method)),
        "blocks": [
            {
                "option": ".".join(path),
                "type": kind,
                "summary": summary(block),
                "doc": inspect.cleandoc(block.__doc__ or ""),
            }
            for path, info in options(method)
            for kind, block in variants(info).items()
        ],
        "needs": list(method.needs),
    }


def _options(method: type[BaseModel], inside: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The options of a block and of those in it. Of blocks that stand for each other, what they share is told once;
    `of` names those that have an option, where not all do."""
    for name, info in method.model_fields.items():
        path = (*inside, name)
        yield _option(path, info)
        kinds = variants(info)
        if not kinds:
            for block in blocks_in(info.annotation):
                yield from _options(block, path)
            continue
        tags = [block.model_fields["type"] for block in kinds.values()]
        default = next((kind for kind, info in zip(kinds, tags, strict=True) if not info.is_required()), None)
        yield _option((*path, "type"), tags[0]) | {
            "type": " | ".join(kinds),
            "required": default is None,
            "default": default,
        }
        shared: dict[str, dict[str, Any]] = {}
        for kind, block in kinds.items():
            for option in _options(block, path):
                if option["name"] != ".".join((*path, "type")):
                    known = shared.setdefault(json.dumps(option, default=str), option)
                    known["of"] = [*known["of"], kind]
        for option in shared.values():
            yield option | {"of": [] if len(option["of"]) == len(kinds) else option["of"]}


def _option(path: tuple[str, ...], info: FieldInfo) -> dict[str, Any]:
    return {
        "name": ".".join(path),
        "type": value_type(info),
        "required": info.is_required(),
        "default": _default(info),
        "description": info.description,
        "of": [],
    }


def summary(method: type[BaseModel]) -> str:
    """The first paragraph of a method's or block's documentation, on one line."""
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
        table.add_row(*(escape(str(cell)) for cell in (option["name"], option["type"], default, _told(option))))
    console.print(table)
    if page["blocks"]:
        console.print("[bold]types[/]")
        table = Table(box=None, show_header=False, padding=(0, 2))
        for block in page["blocks"]:
            table.add_row(escape(f"{block['option']}: {block['type']}"), escape(block["summary"]))
        console.print(table)
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
                cells = (f"`{option['name']}`", f"`{option['type']}`", default, _told(option))
                lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
            if page["blocks"]:
                lines += ["", "| type | |", "|---|---|"]
            for block in page["blocks"]:
                lines.append(f"| `{block['option']}: {{type: {block['type']}}}` | {' '.join(block['doc'].split())} |")
            if method.needs:
                lines += ["", f"Needs {', '.join(f'`{need}`' for need in method.needs)}."]
    return "\n".join(lines) + "\n"


def _told(option: dict[str, Any]) -> str:
    """What an option is, and which of the blocks that stand for each other have it."""
    return f"{', '.join(option['of'])}: {option['description']}" if option["of"] else str(option["description"])


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
