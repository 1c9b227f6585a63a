"""Runs of MLflow, nested in one a run of the recipe."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions refuse a folder unless this is said
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # to its own makers, unless the person wants that
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from tuneforge import RunStarted, StepStarted

from .sessions import Session, StepSessions, leaves, tags

_STATUS = {"done": "FINISHED", "cached": "FINISHED", "failed": "FAILED"}
_LONGEST = 6000  # characters of a parameter's value
_PARAMS, _METRICS = 100, 1000  # as many as a server takes at once
_PARENT = "mlflow.parentRunId"
_AT_ONCE, _FLUSHED = 500, 2.0  # metrics, and seconds, after which they are sent: each call is a request or transaction


class Experiment(StepSessions):
    """An experiment, a run in it, and one nested in that a step."""

    def __init__(self, run: RunStarted, address: str, experiment: str) -> None:
        super().__init__(run)
        self._client = MlflowClient(tracking_uri=address)
        self._experiment = _experiment(self._client, experiment)
        marks = {"recipe": run.recipe, "run": run.run, "tuneforge": run.tuneforge}
        self._parent = self._client.create_run(
            self._experiment, run_name=f"{run.recipe} {run.run}", tags=marks
        ).info.run_id
        self.place = f"{address}, experiment {experiment}"
        if address.startswith("http"):
            self.place = f"{address.rstrip('/')}/#/experiments/{self._experiment}/runs/{self._parent}"

    def begin(self, step: StepStarted) -> Session:
        marks = tags(step) | {_PARENT: self._parent}
        run = self._client.create_run(self._experiment, run_name=step.step, tags=marks).info.run_id
        config = leaves(step.config, ".").items()
        params = [Param(_named(name), str(value)[:_LONGEST]) for name, value in config]
        for first in range(0, len(params), _PARAMS):
            self._client.log_batch(run, params=params[first : first + _PARAMS])
        return _Run(self._client, run)

    def close(self, status: str) -> None:
        self._client.set_terminated(self._parent, _STATUS.get(status, "KILLED"))


class _Run(Session):
    def __init__(self, client: MlflowClient, run: str) -> None:
        self._client, self._run = client, run
        self._waiting: list[Any] = []
        self._flushed = time.monotonic()

    def log(self, number: int, figures: Mapping[str, float], time: float) -> None:
        self._waiting += [Metric(_named(name), value, int(time * 1000), number) for name, value in figures.items()]
        self._send(_AT_ONCE, _FLUSHED)

    def end(self, number: int, figures: Mapping[str, float], status: str, digest: str | None) -> None:
        self.log(number, figures, time.time())
        self._send(1, 0)
        marks = [RunTag("status", status), *([RunTag("digest", digest)] if digest else [])]
        self._client.log_batch(self._run, tags=marks)
        self._client.set_terminated(self._run, _STATUS.get(status, "KILLED"))

    def _send(self, many: int, seconds: float) -> None:
        if len(self._waiting) < many and time.monotonic() - self._flushed < seconds:
            return
        sent, self._waiting = self._waiting, []
        self._flushed = time.monotonic()
        for first in range(0, len(sent), _METRICS):
            self._client.log_batch(self._run, metrics=sent[first : first + _METRICS])


def _named(name: str) -> str:
    """A name with nothing in it that MLflow refuses."""
    return re.sub(r"[^\w./: -]", "_", name)


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:  # another run made it in between
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
