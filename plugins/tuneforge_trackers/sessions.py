"""What the tools have in common: a run of the tool for each step that has figures, together in a group."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneforge import Follower, RunFinished, RunStarted, StepFinished, StepMetrics, StepStarted


class Session(ABC):
    """One step in the tool's own terms."""

    @abstractmethod
    def log(self, number: int, figures: Mapping[str, float], time: float) -> None:
        """Figures of the moment; `number` never goes back, `time` is in seconds since 1970."""

    @abstractmethod
    def end(self, number: int, figures: Mapping[str, float], status: str, digest: str | None) -> None:
        """The last word: the step's final figures, after `number` parts of its work, and how it ended."""


@dataclass
class _Open:
    step: StepStarted
    session: Session | None = None
    number: int = 0
    refused: bool = False


class StepSessions(Follower):
    """Opens a session at a step's first figure. A step that has none is not told of."""

    def __init__(self, run: RunStarted) -> None:
        self.run = run
        self._open: dict[str, _Open] = {}

    def begin(self, step: StepStarted) -> Session:
        """The tool's own run of a step."""
        raise NotImplementedError

    def close(self, status: str) -> None:
        """The run is over: done, failed, interrupted or killed. Nothing is open any more."""

    def step_started(self, event: StepStarted) -> None:
        self._open[event.step] = _Open(event)

    def step_metrics(self, event: StepMetrics) -> None:
        open_ = self._open[event.step]
        open_.number = event.number
        if session := self._session(open_):
            session.log(event.number, event.figures, event.time)

    def step_finished(self, event: StepFinished) -> None:
        open_ = self._open.pop(event.step, None)
        if open_ is None:  # there was nothing to do
            return
        figures = flat(event.metrics) | flat({"scores": event.scores})
        if (open_.session or figures) and (session := self._session(open_)):
            session.end(open_.number, figures, event.status, event.digest)

    def run_finished(self, event: RunFinished) -> None:
        for open_ in self._open.values():
            if open_.session:
                open_.session.end(open_.number, {}, event.status, None)
        self._open.clear()
        self.close(event.status)

    def _session(self, open_: _Open) -> Session | None:
        if open_.session is None and not open_.refused:
            open_.refused = True  # unless it goes well: what the tool refuses once is not tried at every figure
            open_.session = self.begin(open_.step)
        return open_.session


def flat(figures: Mapping[str, Any], between: str = "/") -> dict[str, float]:
    """The numbers of nested figures, each by its path."""
    return {name: value for name, value in leaves(figures, between).items() if _is_number(value)}


def leaves(values: Mapping[str, Any], between: str) -> dict[str, Any]:
    """The plain values of nested blocks, each by its path."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}{between}{inner}": plain for inner, plain in leaves(value, between).items()}
        else:
            found[name] = value
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plain(name: str) -> str:
    """A name that will do for a folder and in a link."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "recipe"


def tags(step: StepStarted) -> dict[str, str]:
    """What a step's session can be found by."""
    return {
        "recipe": step.recipe,
        "run": step.run,
        "step": step.step,
        "stage": step.stage,
        "method": step.method,
        "key": step.key,
    }
