"""Adapters of PEFT: merging one into the model it was trained on."""

from tuneforge import Merge, hookimpl

from .adapter import MergeAdapter


@hookimpl
def register_merge() -> list[type[Merge]]:
    return [MergeAdapter]
