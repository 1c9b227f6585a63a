"""The fields of a configuration: what counts for a step's key, and which of its strings are paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator, PlainSerializer, SerializationInfo

from .functions import counted


@dataclass(frozen=True)
class Mark:
    """Where a value was written: `place` as file:line:column, and the folder that its relative paths start from."""

    place: str
    folder: Path


class Text(str):
    """A string of a recipe that remembers where it was written."""

    mark: Mark

    def __new__(cls, value: str, mark: Mark) -> Text:
        text = super().__new__(cls, value)
        text.mark = mark
        return text


def Field(  # noqa: N802 - stands for pydantic's Field
    default: Any = ...,
    *,
    description: str,
    keyed: bool = True,
    also: Sequence[str] = (),
    **constraints: Any,
) -> Any:
    """pydantic's `Field`, and three things of ours.

    `description` is asked for: it is the option's documentation. `keyed=False` says that the result does not depend on
    this option (logging, batch split), so that changing it runs nothing again. `also` lists what other tools call it
    (`lr`, `lora_r`): whoever writes such a name is told ours.
    """
    extra: dict[str, Any] = {}
    if not keyed:
        extra["keyed"] = False
    if also:
        extra["also"] = list(also)
    if default is not ...:
        constraints["default"] = default
    return pydantic.Field(description=description, json_schema_extra=extra or None, **constraints)


def _source(value: Any) -> Any:
    return _from(value.mark.folder if isinstance(value, Text) else Path(), value)


def _target(value: Any) -> Any:
    return _from(Path(), value)


def _from(folder: Path, value: Any) -> Any:
    if not isinstance(value, (str, Path)) or not str(value).strip() or "\0" in str(value):
        raise ValueError("a path is needed")
    try:
        return (folder / Path(value).expanduser()).absolute()
    except RuntimeError as error:  # ~someone
        raise ValueError("there is no such home folder") from error


def _by_content(value: Path, info: SerializationInfo) -> str:
    context = info.context if isinstance(info.context, dict) else {}
    digest = context.get("digest")
    return digest(value) if digest else str(value)


Source = Annotated[Path, BeforeValidator(_source), PlainSerializer(_by_content)]
"""A file or folder that a configuration points at: relative to the recipe, and counted by its content."""


def _where(value: Path, info: SerializationInfo) -> str:
    context = info.context if isinstance(info.context, dict) else {}
    target = context.get("target")
    return str(target(value) if target else value)


Target = Annotated[Path, BeforeValidator(_target), PlainSerializer(_where)]
"""Where a publication is written: relative to the working folder, since recipes may lie inside an installed package."""


def _function(value: Any) -> Any:
    where, _, name = str(value).rpartition(":")
    parts = [name] if where.endswith(".py") else [name, *where.split(".")]
    if not isinstance(value, str) or not all(part.isidentifier() for part in parts):
        raise ValueError("a function is written file.py:name or package.module:name")
    folder = value.mark.folder if isinstance(value, Text) else Path()
    return f"{_from(folder, where)}:{name}" if where.endswith(".py") else f"{where}:{name}"


def _function_by_content(value: str, info: SerializationInfo) -> str:
    where, _, name = value.rpartition(":")
    context = info.context if isinstance(info.context, dict) else {}
    digest = context.get("digest")
    code = counted(where) if digest else None
    return f"{digest(code)}:{name}" if digest and code else value


Function = Annotated[str, BeforeValidator(_function), PlainSerializer(_function_by_content)]
"""A function of a file, `file.py:name` relative to the recipe, or of a module, `package.module:name`: counted by the
content of the file or package that it is in."""
