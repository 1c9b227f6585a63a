"""Adapters of PEFT: merging one into the model it was trained on, combining several of one model."""

from tuneforge import Merge, hookimpl

from .adapter import MergeAdapter
from .adapters import MergeAdapters


@hookimpl
def register_merge() -> list[type[Merge]]:
    return [MergeAdapter, MergeAdapters]
