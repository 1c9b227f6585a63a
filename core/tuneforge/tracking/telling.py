"""The run's side of its lifecycle: plugins' hooks are called, and each tracker is told by way of its process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .. import __version__
from ..artifacts import Report
from ..events import Logged, Observer
from ..lifecycle import HOOKS, Moment, RunFinished, RunStarted, StepFinished, StepMetrics, StepStarted
from ..plan import Plan, PlannedStep
from ..plugins import told
from ..redaction import redacted, secrets_of
from ..report.figures import is_number
from ..report.points import points_before
from .feed import Feed, finish


class Lifecycle:
    """Tells of one run. Nothing that listens can fail the run, and no tracker holds it up."""

    def __init__(self, plan: Plan, run: str, observer: Observer) -> None:
        self._plan = plan
        self._run = run
        self._observer = observer
        self._began = time.monotonic()
        self._hooks = {hook: plan.recipe.plugins.listeners(hook) for hook in HOOKS.values()}
        self._feeds = [
            Feed(tracker, plan.recipe.plugins.trackers.origin(name), plan.registry, run, self._say)
            for name, tracker in plan.recipe.trackers.items()
        ]
        self._heard = bool(self._feeds or self._hooks["step_metrics"])
        self._warned: set[tuple[str, str]] = set()
        self._numbers: dict[str, tuple[float, float]] = {}
        """Of each step: what it last told to be done, and how much that was when it last began anew."""

    def run_started(self) -> None:
        recipe = self._plan.recipe
        settings = redacted(recipe.document.settings, secrets_of(recipe.document.data))
        self._tell(RunStarted(self._run, recipe.name, list(self._plan.steps), settings, __version__))

    def step_started(self, step: PlannedStep) -> None:
        """Work begins. Trackers are not started before: a run in which there is nothing to do needs none."""
        self._tell(
            StepStarted(
                self._run,
                self._plan.recipe.name,
                step.name,
                step.method.stage,
                step.method.name,
                step.key or "",
                redacted(step.config),
                step.spec.inputs,
            )
        )
        for feed in self._feeds:
            feed.start()

    def step_metrics(self, step: PlannedStep, done: float, total: float, figures: Mapping[str, Any]) -> None:
        if not self._heard:
            return
        now = time.time()
        known = {name: float(value) for name, value in figures.items() if is_number(value)}
        if step.name not in self._numbers and done > 1 and step.key:
            before = points_before(self._plan.registry, self._run, step.name, step.key, done)
            for point in before:
                at = now - before[-1].seconds + point.seconds
                self._tell(self._metrics(step.name, point.done, point.total, point.figures, at))
        self._tell(self._metrics(step.name, done, total, known, now))

    def _metrics(self, step: str, done: float, total: float, figures: Mapping[str, float], at: float) -> StepMetrics:
        last, offset = self._numbers.get(step, (0.0, 0.0))
        if done < last:
            offset += last
        self._numbers[step] = (done, offset)
        return StepMetrics(self._run, step, int(offset + done), done, total, figures, at)

    def step_finished(self, step: PlannedStep, entry: Mapping[str, Any]) -> None:
        """The step is over, as its entry in the run record tells."""
        self._tell(
            StepFinished(
                self._run,
                self._plan.recipe.name,
                step.name,
                step.method.stage,
                step.method.name,
                entry["status"],
                entry["seconds"],
                entry["digest"],
                entry["kind"],
                entry["metrics"],
                self._scores(step) if entry["digest"] else {},
                entry.get("error", ""),
            )
        )

    def _scores(self, step: PlannedStep) -> dict[str, dict[str, float]]:
        result = step.result
        if result is None or result.digest is None or not issubclass(result.kind, Report):
            return {}
        ends = {name: planned.result for name, planned in self._plan.steps.items()} | self._plan.references
        names = {end.digest: name for name, end in reversed(ends.items()) if end and end.digest}
        report = Report.summary(self._plan.registry.tree(result.digest))
        return {
            names.get(digest, digest[:12]): {name: value for name, value in scores.items() if is_number(value)}
            for digest, scores in report.get("scores", {}).items()
        }

    def run_finished(self, status: str) -> None:
        """The run is over. Waits for trackers to do what is left to them."""
        seconds = round(time.monotonic() - self._began, 3)
        self._tell(RunFinished(self._run, self._plan.recipe.name, status, seconds))
        finish(self._feeds, self._say, interrupted=status == "interrupted")

    def record(self) -> dict[str, Any]:
        """What the run's record tells of each tracker: its state, and where to look."""
        return {feed.name: dict(feed.entry) for feed in self._feeds}

    def _tell(self, moment: Moment) -> None:
        hook = HOOKS[type(moment)]
        for plugin, listener in self._hooks[hook]:
            try:
                listener(moment)
            except (Exception, SystemExit) as error:
                if (plugin, hook) not in self._warned:
                    self._warned.add((plugin, hook))
                    self._say(f"warning: plugin {plugin}: {hook} failed: {told(error)}")
        for feed in self._feeds:
            feed.tell(moment)

    def _say(self, text: str) -> None:
        self._observer(Logged("", text))
