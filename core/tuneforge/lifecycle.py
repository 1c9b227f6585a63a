"""What plugins and trackers are told while a recipe is carried out: plain values, which go through a pipe as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunStarted:
    """A run begins. `run` is its id, `steps` names all of the recipe in the order of the plan."""

    run: str
    recipe: str
    steps: Sequence[str] = ()
    settings: Sequence[str] = ()
    tuneforge: str = ""


@dataclass(frozen=True)
class StepStarted:
    """Work on a step begins. A step that is cached or skipped has no beginning, only an end.

    `config` is what counts of its configuration, defaults included, and names no path of this machine; `inputs` are
    the names that each input is wired to.
    """

    run: str
    recipe: str
    step: str
    stage: str
    method: str
    key: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepMetrics:
    """Figures of the moment: `done` of `total` parts of a step's work are behind it.

    `number` counts the parts too, but never goes back: a step that goes through its work twice counts on. A step that
    is resumed begins with the figures of the runs before. `time` is in seconds since 1970.
    """

    run: str
    step: str
    number: int
    done: float
    total: float
    figures: Mapping[str, float]
    time: float


@dataclass(frozen=True)
class StepFinished:
    """A step is over: `status` is done, cached, failed or skipped.

    `scores` are those of a report, by the name of the step that made its subject. `metrics` are numbers, texts, and
    flat dicts of them.
    """

    run: str
    recipe: str
    step: str
    stage: str
    method: str
    status: str
    seconds: float = 0.0
    digest: str | None = None
    kind: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class RunFinished:
    """A run is over: `status` is done, failed or interrupted; or killed, which trackers alone can be told."""

    run: str
    recipe: str
    status: str
    seconds: float = 0.0


Moment = RunStarted | StepStarted | StepMetrics | StepFinished | RunFinished

MOMENTS: Mapping[str, type[Moment]] = {
    "run_started": RunStarted,
    "step_started": StepStarted,
    "step_metrics": StepMetrics,
    "step_finished": StepFinished,
    "run_finished": RunFinished,
}
"""By the hook that is told of it."""

HOOKS = {moment: hook for hook, moment in MOMENTS.items()}
