"""`load_model: builtin`: models that come with this plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, SerializationInfo, WithJsonSchema

from tuneforge import Facts, Field, Known, LoadModel, Step

from . import folders

SHIPPED = Path(__file__).with_name("builtin")
_NAMES = sorted(folder.name for folder in SHIPPED.iterdir())


def _one_of_them(name: str) -> str:
    if name not in _NAMES:
        raise ValueError(f"must be {' or '.join(_NAMES)}")
    return name


def _by_content(name: str, info: SerializationInfo) -> str:
    digest = (info.context or {}).get("digest")
    return digest(SHIPPED / name) if digest else name


Shipped = Annotated[
    str,
    AfterValidator(_one_of_them),
    PlainSerializer(_by_content),
    WithJsonSchema({"type": "string", "enum": _NAMES}),
]
"""A shipped model by name, which counts for keys by its content as a Source does: a new one is loaded anew."""


class Builtin(LoadModel):
    """A small model that comes with tuneforge, so that every recipe can be tried with no download."""

    name = "builtin"

    model: Shipped = Field("tiny", description="Which of the shipped models.")

    def foresee(self, facts: Known) -> Facts:
        return folders.facts(SHIPPED / self.model)

    def run(self, step: Step) -> None:
        folders.take_over(SHIPPED / self.model, step.out)
