"""Event files, written by TensorBoard's own writer, which needs neither torch nor TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tuneforge import RunStarted, StepStarted

from .sessions import Session, StepSessions, leaves, plain, tags

_STATUS = {"done": api_pb2.STATUS_SUCCESS, "cached": api_pb2.STATUS_SUCCESS}
_FLUSHED = 5  # seconds after which figures can be seen


class Logs(StepSessions):
    """A folder a run, a folder in it a step."""

    def __init__(self, run: RunStarted, folder: Path) -> None:
        super().__init__(run)
        self._folder = folder / plain(run.recipe) / run.run
        self._folder.mkdir(parents=True, exist_ok=True)
        self.place = str(self._folder)

    def begin(self, step: StepStarted) -> Session:
        return _Events(self._folder / plain(step.step), step)


class _Events(Session):
    def __init__(self, folder: Path, step: StepStarted) -> None:
        self._writer = EventFileWriter(str(folder), flush_secs=_FLUSHED)
        config = {name: _hparam(value) for name, value in leaves(step.config, ".").items()}
        self._add(hparams_pb(tags(step) | config, trial_id=f"{step.run}/{step.step}"))

    def log(self, number: int, figures: Mapping[str, float], time: float) -> None:
        self._add(_scalars(figures), number, time)

    def end(self, number: int, figures: Mapping[str, float], status: str, digest: str | None) -> None:
        self._add(_scalars({f"final/{name}": value for name, value in figures.items()}), number)
        ended = plugin_data_pb2.SessionEndInfo(
            status=_STATUS.get(status, api_pb2.STATUS_FAILURE), end_time_secs=time.time()
        )
        data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, session_end_info=ended)
        marked = metadata.create_summary_metadata(data)
        tag, nothing = metadata.SESSION_END_INFO_TAG, metadata.NULL_TENSOR
        self._add(Summary(value=[Summary.Value(tag=tag, metadata=marked, tensor=nothing)]), number)
        self._writer.close()

    def _add(self, summary: Summary, number: int = 0, at: float | None = None) -> None:
        self._writer.add_event(Event(wall_time=at or time.time(), step=number, summary=summary))


def _scalars(figures: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in figures.items()])


def _hparam(value: object) -> bool | float | str:
    return value if isinstance(value, (bool, int, float, str)) else str(value)
