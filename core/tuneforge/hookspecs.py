"""Every hook point of tuneforge. A plugin implements those it needs, marked with `tuneforge.hookimpl`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from .errors import Finding
from .lifecycle import RunFinished, RunStarted, StepFinished, StepMetrics, StepStarted
from .stages import Align, Evaluate, Format, LoadModel, Merge, Publish, Quantize, Train

if TYPE_CHECKING:
    from .extensions import Extension
    from .plan import PlannedStep
    from .servers import Server
    from .speakers import Speaker
    from .trackers import Tracker

hookspec = pluggy.HookspecMarker("tuneforge")
hookimpl = pluggy.HookimplMarker("tuneforge")


@hookspec
def register_format() -> list[type[Format]]:  # type: ignore[empty-body]
    """Methods that make data artifacts of raw rows."""


@hookspec
def register_load_model() -> list[type[LoadModel]]:  # type: ignore[empty-body]
    """Methods that bring a base model."""


@hookspec
def register_train() -> list[type[Train]]:  # type: ignore[empty-body]
    """Methods that fit a model to data."""


@hookspec
def register_align() -> list[type[Align]]:  # type: ignore[empty-body]
    """Methods that fit a model to preferences or rewards."""


@hookspec
def register_merge() -> list[type[Merge]]:  # type: ignore[empty-body]
    """Methods that make one model of several."""


@hookspec
def register_quantize() -> list[type[Quantize]]:  # type: ignore[empty-body]
    """Methods that write a model in fewer bits or for another runtime."""


@hookspec
def register_evaluate() -> list[type[Evaluate]]:  # type: ignore[empty-body]
    """Methods that report on models."""


@hookspec
def register_publish() -> list[type[Publish]]:  # type: ignore[empty-body]
    """Methods that bring artifacts to where others use them."""


@hookspec
def register_chat() -> list[type[Speaker]]:  # type: ignore[empty-body]
    """Ways to talk to artifacts of a kind."""


@hookspec
def register_server() -> list[type[Server]]:  # type: ignore[empty-body]
    """Ways to serve artifacts of some kinds to programs that speak OpenAI's protocol."""


@hookspec
def register_tracker() -> list[type[Tracker]]:  # type: ignore[empty-body]
    """Tools that runs are told of, by recipes that name them under `trackers:`."""


@hookspec
def register_extension() -> list[type[Extension]]:  # type: ignore[empty-body]
    """What adds steps to recipes, visibly in their plans."""


@hookspec
def extend_plan(steps: Sequence[PlannedStep]) -> list[Finding]:  # type: ignore[empty-body]
    """Findings on a plan as a whole, such as two steps that do not fit each other."""


@hookspec
def run_started(event: RunStarted) -> None:
    """Told when a run begins."""


@hookspec
def step_started(event: StepStarted) -> None:
    """Told when work on a step begins."""


@hookspec
def step_metrics(event: StepMetrics) -> None:
    """Told how far a step is, with its figures of the moment."""


@hookspec
def step_finished(event: StepFinished) -> None:
    """Told when a step is over, with its result, figures and scores."""


@hookspec
def run_finished(event: RunFinished) -> None:
    """Told when a run is over."""
