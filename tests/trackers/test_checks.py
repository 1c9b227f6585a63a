"""What of a tracker can be known to fail before anything runs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.core.bench import Bench, told
from tests.trackers.conftest import RECIPE
from tuneforge_trackers.mlflow import Mlflow


def found(bench: Bench, trackers: str) -> list[str]:
    plan = bench.plan(f"trackers: {{{trackers}}}\n{RECIPE}")
    return [text.removeprefix(f"{bench.folder}/") for text in told(plan.findings)]


@pytest.mark.parametrize(
    ("trackers", "place"),
    [
        ("tensorboard: {folder: text.txt/logs}", "2:26"),
        ("wandb: {folder: text.txt, mode: offline}", "2:20"),
        ("mlflow: {uri: text.txt/runs}", "2:21"),
        ("mlflow: {uri: 'sqlite:///text.txt/mlflow.db'}", "2:21"),
        ("trackio: {folder: text.txt}", "2:22"),
    ],
)
def test_a_folder_that_cannot_be_written(bench: Bench, trackers: str, place: str) -> None:
    problem = f"recipe.yaml:{place}: {bench.folder / 'text.txt'} is no folder\n    Name another folder."
    assert found(bench, trackers) == [problem]


def test_wandb_wants_a_login(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneforge_trackers.wandb.answering", lambda *asked: ())
    fix = "Say `wandb login`, set WANDB_API_KEY, or write mode: offline."
    assert found(bench, "wandb: {}") == [f"recipe.yaml:2:12: there is no login for https://api.wandb.ai\n    {fix}"]
    own = "wandb: {server: 'https://wandb.our.org', mode: online}"
    assert found(bench, own) == [f"recipe.yaml:2:53: there is no login for https://wandb.our.org\n    {fix}"]
    assert found(bench, "wandb: {mode: offline}") == []
    (bench.folder / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    assert found(bench, "wandb: {}") == []
    assert len(found(bench, own)) == 1
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert found(bench, own) == []


def test_wandb_wants_its_server(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert found(bench, f"wandb: {{server: '{uri}'}}") == []
    (problem,) = found(bench, f"wandb: {{server: '{uri}'}}")
    assert problem.startswith(f"recipe.yaml:2:20: nothing answers at {uri[7:]}: ")
    assert "mode: offline" in problem
    assert found(bench, f"wandb: {{server: '{uri}', mode: offline}}") == []


def test_a_server_that_is_slow_to_answer_is_a_warning(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: tuple[str, int], timeout: float) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    (problem,) = found(bench, "mlflow: {uri: 'https://tracking.our.org'}")
    assert problem.startswith("recipe.yaml:2:21: warning: tracking.our.org:443 did not answer within 2 s")


def test_mlflow_wants_its_server(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert found(bench, f"mlflow: {{uri: '{uri}'}}") == []
    (problem,) = found(bench, f"mlflow: {{uri: '{uri}'}}")
    assert problem.startswith(f"recipe.yaml:2:21: nothing answers at {uri[7:]}: ")
    assert "--set trackers.mlflow=false" in problem


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        (None, "sqlite:///{here}/mlflow.db"),
        ("mlruns", "file://{here}/mlruns"),
        ("file:///var/mlruns", "file:///var/mlruns"),
        ("sqlite:////var/mlflow.db", "sqlite:////var/mlflow.db"),
        ("http://tracking.our.org:5000", "http://tracking.our.org:5000"),
        ("databricks", "databricks"),
    ],
)
def test_addresses_of_mlflow(bench: Bench, uri: str | None, address: str) -> None:
    assert Mlflow(uri=uri).address() == address.format(here=Path.cwd())


def test_mlflow_takes_the_environment_s_server(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert len(found(bench, "mlflow: ")) == 1
    assert found(bench, "mlflow: {uri: mlruns}") == []


def test_a_space_wants_a_login(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "there is no login for the Hugging Face Hub\n    Say `hf auth login`, set HF_TOKEN, or leave space out."
    assert found(bench, "trackio: {space: me/notes}") == [f"recipe.yaml:2:22: {problem}"]
    assert found(bench, "trackio: {}") == []
    monkeypatch.setenv("HF_TOKEN", "key")
    assert found(bench, "trackio: {space: me/notes}") == []
