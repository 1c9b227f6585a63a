"""Base models: one that is shipped, one in a folder, one of the Hub, and one that is made from nothing."""

from __future__ import annotations

from tuneforge import LoadModel, hookimpl

from .hub import Hub
from .local import Local
from .new import New
from .shipped import Builtin


@hookimpl
def register_load_model() -> list[type[LoadModel]]:
    return [Builtin, Hub, Local, New]
