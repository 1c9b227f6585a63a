"""What each tool reads of a tracked run, by its own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.bench import Bench, step_of
from tests.core.test_runner import wait_for
from tests.trackers import offline
from tests.trackers.conftest import RECIPE

pytestmark = pytest.mark.slow

LOSSES = [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)]


def tracked(bench: Bench, trackers: str) -> dict[str, Any]:
    record = bench.run(f"trackers: {{{trackers}}}\n{RECIPE}")
    (entry,) = record["trackers"].values()
    assert (entry["status"], entry["left_out"], entry["problem"]) == ("done", 0, "")
    return record


def rounded(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(number, pytest.approx(value)) for number, value in points]


def test_tensorboard(bench: Bench) -> None:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import api_pb2, metadata

    record = tracked(bench, "tensorboard: {folder: logs}")
    assert record["trackers"]["tensorboard"]["place"] == str(bench.folder / "logs" / "roses" / record["id"])
    read = EventMultiplexer().AddRunsFromDirectory(str(bench.folder / "logs")).Reload()
    runs = {name.rpartition("/")[2]: name for name in read.Runs()}
    assert set(runs) == {"words", "bag", "counts", "grades"}
    assert runs["bag"] == f"roses/{record['id']}/bag"
    assert [(event.step, event.value) for event in read.Scalars(runs["bag"], "loss")] == rounded(LOSSES)
    times = [event.wall_time for event in read.Scalars(runs["bag"], "loss")]
    assert times == sorted(times)
    assert [event.value for event in read.Scalars(runs["counts"], "final/kinds")] == [3]
    assert [event.value for event in read.Scalars(runs["grades"], "final/scores/counts/kept")] == [2]
    plugin = read.GetAccumulator(runs["words"]).PluginTagToContent("hparams")
    began = metadata.parse_session_start_info_plugin_data(plugin[metadata.SESSION_START_INFO_TAG])
    assert began.hparams["clean.lower"].bool_value is True
    assert (began.hparams["recipe"].string_value, began.hparams["stage"].string_value) == ("roses", "format")
    ended = metadata.parse_session_end_info_plugin_data(plugin[metadata.SESSION_END_INFO_TAG])
    assert ended.status == api_pb2.STATUS_SUCCESS


def test_wandb_offline(bench: Bench) -> None:
    record = tracked(bench, "wandb: {project: orders, entity: us, mode: offline, tags: [red]}")
    assert record["trackers"]["wandb"]["place"] == str(bench.folder / "wandb")
    runs = offline.runs(bench.folder / "wandb")
    assert set(runs) == {"words", "bag", "counts", "grades"}
    bag = runs["bag"]
    assert (bag["run"].project, bag["run"].run_group, bag["run"].job_type) == ("orders", record["id"], "train")
    assert bag["run"].entity == "us"
    assert list(bag["run"].tags) == ["roses", "patient", "red"]
    assert [(point["_step"], point["loss"]) for point in bag["history"]] == LOSSES
    assert bag["config"]["parts"] == 4
    assert bag["config"]["tuneforge"]["key"] == step_of(record, "bag")["key"]
    assert (bag["summary"]["status"], bag["summary"]["digest"]) == ("done", step_of(record, "bag")["digest"])
    assert bag["exit"] == 0
    assert runs["words"]["config"]["clean"] == {"lower": True, "drop": ""}
    assert runs["counts"]["summary"]["kinds"] == 3
    assert runs["grades"]["summary"]["scores/counts/kept"] == 2


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        pytest.param("uri: mlruns, experiment: trials", "file://{folder}/mlruns", id="files"),
        pytest.param("experiment: trials", "sqlite:///{folder}/mlflow.db", id="database"),
    ],
)
def test_mlflow(bench: Bench, uri: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # what a reader of such a folder has to say
    from mlflow import MlflowClient

    record = tracked(bench, f"mlflow: {{{uri}}}")
    address = address.format(folder=bench.folder)
    assert record["trackers"]["mlflow"]["place"] == f"{address}, experiment trials"
    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name("trials")
    assert experiment is not None
    runs = {run.data.tags.get("step", ""): run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"", "words", "bag", "counts", "grades"}
    parent, bag = runs[""], runs["bag"]
    assert (parent.info.status, parent.data.tags["run"]) == ("FAILED", record["id"])  # as its last step was
    assert bag.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (bag.info.run_name, bag.info.status, bag.data.tags["stage"]) == ("bag", "FINISHED", "train")
    assert bag.data.tags["digest"] == step_of(record, "bag")["digest"]
    history = client.get_metric_history(bag.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == rounded(LOSSES)
    assert runs["words"].data.params["clean.lower"] == "True"
    assert runs["counts"].data.metrics == {"kinds": 3}
    assert runs["grades"].data.metrics == {"scores/counts/kept": 2}


_TRACKIO = """
import json, sys

from trackio.sqlite_storage import SQLiteStorage

names = {name.rpartition("-")[2]: name for name in SQLiteStorage.get_runs("trials")}
logs = {name: SQLiteStorage.get_logs("trials", run) for name, run in names.items()}
configs = {name: SQLiteStorage.get_run_config("trials", run) for name, run in names.items()}
json.dump({"logs": logs, "configs": configs}, sys.stdout, default=str)
"""


def test_trackio(bench: Bench) -> None:
    record = tracked(bench, "trackio: {folder: notes, project: trials}")
    assert record["trackers"]["trackio"]["place"] == f"{bench.folder / 'notes'}, project trials"
    # In a process of its own: where it looks is settled when it is first imported, which trl does, too.
    told = subprocess.run(
        [sys.executable, "-c", _TRACKIO],
        env={**os.environ, "TRACKIO_DIR": str(bench.folder / "notes")},
        check=True,
        stdout=subprocess.PIPE,
    )
    logs, configs = (json.loads(told.stdout)[part] for part in ("logs", "configs"))
    assert set(logs) == {"words", "bag", "counts", "grades"}
    assert [(log["step"], log["loss"]) for log in logs["bag"] if "loss" in log] == LOSSES
    assert logs["bag"][-1]["status"] == "done"
    assert (configs["bag"]["parts"], configs["bag"]["_Group"]) == (4, record["id"])
    assert logs["grades"][-1]["final/scores/counts/kept"] == 2


def killed(bench: Bench, tracker: str, begun: Callable[[], bool]) -> None:
    """A run that is killed once the tool has its long step's first figures."""
    recipe = RECIPE.replace("parts: 4", "parts: 400, pause: 0.05")
    running = bench.start("run", str(bench.write(f"trackers: {{{tracker}}}\n{recipe}")))
    wait_for(begun)
    running.kill()
    running.communicate()


@pytest.mark.whole
def test_a_killed_run_is_closed_in_wandb(bench: Bench) -> None:
    folder = bench.folder / "wandb"

    def bag() -> Any:
        return offline.runs(folder).get("bag") if folder.exists() else None

    killed(bench, "wandb: {mode: offline}", lambda: bool(bag() and bag()["history"]))
    wait_for(lambda: bag()["exit"] is not None, 20)
    assert (bag()["exit"], bag()["summary"]["status"]) == (1, "killed")


def test_a_killed_run_is_closed_in_mlflow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    killed(bench, "mlflow: {uri: mlruns}", lambda: bool(list((bench.folder / "mlruns").glob("*/*/metrics/loss"))))
    client = MlflowClient(tracking_uri=f"file://{bench.folder}/mlruns")
    experiment = client.get_experiment_by_name("roses")
    assert experiment is not None

    def statuses() -> dict[str, str]:
        return {
            run.data.tags.get("step", ""): run.info.status for run in client.search_runs([experiment.experiment_id])
        }

    wait_for(lambda: "RUNNING" not in statuses().values(), 20)
    assert statuses() == {"": "KILLED", "words": "FINISHED", "bag": "KILLED"}
