"""Runs of Trackio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trackio
from trackio.utils import TRACKIO_DIR

from tuneforge import RunStarted, StepStarted

from .sessions import Session, StepSessions, tags


class Project(StepSessions):
    """A project, a group in it a run of the recipe, a run in that a step."""

    def __init__(self, run: RunStarted, project: str, space: str | None) -> None:
        super().__init__(run)
        self._project, self._space = project, space
        self.place = f"https://huggingface.co/spaces/{space}" if space else f"{TRACKIO_DIR}, project {project}"

    def begin(self, step: StepStarted) -> Session:
        return _Run(
            trackio.init(
                project=self._project,
                name=f"{step.run}-{step.step}",
                group=step.run,
                space_id=self._space,
                config={**step.config, "tuneforge": tags(step)},
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        )


class _Run(Session):
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, number: int, figures: Mapping[str, float], time: float) -> None:
        self._run.log(dict(figures), step=number)

    def end(self, number: int, figures: Mapping[str, float], status: str, digest: str | None) -> None:
        self._run.log({**{f"final/{name}": value for name, value in figures.items()}, "status": status}, step=number)
        self._run.finish()
