"""What is told while a recipe is carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Event:
    """Something that happened to a step, or to the run as a whole where `step` is empty."""

    step: str


@dataclass(frozen=True)
class Started(Event):
    """Work on the step begins."""


@dataclass(frozen=True)
class Logged(Event):
    """The step says something; or, where there is none, what follows the run does."""

    text: str


@dataclass(frozen=True)
class Progressed(Event):
    """`done` of `total` parts of the work, and figures of the moment."""

    done: float
    total: float
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended(Event):
    """The step is over: `status` is cached, done, failed or skipped."""

    status: str
    seconds: float = 0.0
    digest: str | None = None
    kind: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


class Observer(Protocol):
    """Whoever watches a run. What follows the run speaks from threads of its own."""

    def __call__(self, event: Event, /) -> None: ...
