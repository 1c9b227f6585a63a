"""Runs of Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to its own makers, unless the person wants that
import wandb

from tuneforge import RunStarted, StepStarted

from .sessions import Session, StepSessions, plain, tags
from .wandb import WeightsAndBiases

_LONGEST = 64  # characters of a tag


class Group(StepSessions):
    """A group a run of the recipe, a run in it a step."""

    def __init__(self, run: RunStarted, options: WeightsAndBiases) -> None:
        super().__init__(run)
        self._options = options
        self._project = options.project or plain(run.recipe)
        folder = options.folder / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        if options.mode == "offline":
            self.place = str(folder)

    def begin(self, step: StepStarted) -> Session:
        settings = wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True)
        if self._options.server:
            settings.base_url = self._options.server
        run = wandb.init(
            project=self._project,
            entity=self._options.entity,
            group=step.run,
            name=step.step,
            job_type=step.stage,
            config={**step.config, "tuneforge": tags(step)},
            tags=[tag[:_LONGEST] for tag in (step.recipe, step.method, *self._options.tags)],
            mode=self._options.mode,
            dir=str(self._options.folder),
            settings=settings,
            reinit="create_new",
        )
        self.place = self.place or f"{run.project_url}/groups/{step.run}"  # known to the server alone
        return _Run(run)


class _Run(Session):
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, number: int, figures: Mapping[str, float], time: float) -> None:
        self._run.log({**figures, "_timestamp": time}, step=number)

    def end(self, number: int, figures: Mapping[str, float], status: str, digest: str | None) -> None:
        self._run.summary.update({**figures, "status": status, **({"digest": digest} if digest else {})})
        self._run.finish(exit_code=0 if status in ("done", "cached") else 1)
