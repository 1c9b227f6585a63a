"""The shipped recipe publishes, to the registry's own server, what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard

from tests.hubs import READ, WRITE, Served

RECIPE = Path(__file__).parents[2] / "recipes" / "publish-hub.yaml"
REPOS = {"model": "orders", "adapter": "orders-lora", "ggufs": "orders-gguf"}


def tuneforge(folder: Path, served: Served, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    named = [word for step, repo in REPOS.items() for word in ("--set", f"steps.{step}.with.repo={repo}")]
    return subprocess.run(
        [sys.executable, "-m", "tuneforge.cli", "--home", str(folder / "home"), *arguments, *named],
        cwd=folder,
        env=os.environ | {"HF_ENDPOINT": served.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow  # the program itself, twice
def test_it_is_planned_and_a_reader_is_told(hub: Served, tmp_path: Path) -> None:
    planned = tuneforge(tmp_path, hub, WRITE, "plan", str(RECIPE))
    assert planned.returncode == 0, planned.stderr
    assert tuneforge(tmp_path, hub, READ, "plan", str(RECIPE)).returncode == 2


@pytest.mark.whole  # trains, a little
def test_it_publishes_the_model_and_the_adapter(hub: Served, tmp_path: Path) -> None:
    small = ("--set", "steps.sft.with.steps=1", "--set", "steps.chats.with.limit=60")
    ended = tuneforge(tmp_path, hub, WRITE, "run", str(RECIPE), "--until", "model", *small)
    assert ended.returncode == 0, ended.stderr
    card = ModelCard.load("orders")
    assert card.data.license == "apache-2.0" and "## Intended use" in card.text and "## Parity" in card.text
    assert {result.metric_type for result in card.data.eval_results} >= {"exact_match", "record_match"}
    ended = tuneforge(tmp_path, hub, WRITE, "run", str(RECIPE), "--until", "adapter", *small)
    assert ended.returncode == 0, ended.stderr
    assert "base/model.safetensors" in HfApi().list_repo_files("orders-lora")
    assert "done" not in [line.split()[1] for line in ended.stderr.splitlines() if line.startswith("sft: ")]
