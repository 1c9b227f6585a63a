"""Data: raw rows into conversations, preference pairs, prompts and texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from tuneforge import Finding, Format, hookimpl
from tuneforge.stages import Method

from .chat import Chat
from .completion import Completion
from .options import DataFormat
from .preference import Preference
from .prompts import Prompts

__all__ = ["Chat", "Completion", "Preference", "Prompts"]


class Planned(Protocol):
    """What is read here of a step of a plan."""

    method: Method

    @property
    def name(self) -> str: ...
    @property
    def place(self) -> str: ...


@hookimpl
def register_format() -> list[type[Format]]:
    return [Chat, Completion, Preference, Prompts]


@hookimpl
def extend_plan(steps: Sequence[Planned]) -> list[Finding]:
    """Warns of data steps that do not hold out the same prompts: one may train on what another one evaluates on."""
    shares = [
        (step, step.method.holdout)
        for step in steps
        if isinstance(step.method, DataFormat) and step.method.holds_out_prompts
    ]
    for (first, share), (other, another) in pairwise(shares):
        if share != another:
            problem = (
                f"{first.name} holds out {share:g} of the prompts, {other.name} {another:g}: a prompt that one "
                "evaluates on may be in the other's training part"
            )
            return [Finding(problem, "Give both the same holdout.", level="warning", place=other.place)]
    return []
