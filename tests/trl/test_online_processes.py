"""Answers that are drawn by several processes: each rank draws its share of a round, and all learn from the whole."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.trl.colours import PROMPTS
from tests.trl.together import Together
from tuneforge import Model
from tuneforge_trl.online.grpo import Grpo
from tuneforge_trl.online.online_dpo import OnlineDpo

pytestmark = pytest.mark.slow

SHORT: dict[str, Any] = {
    "rewards": [{"type": "length", "most": 3, "slack": 6}],
    "max_new_tokens": 8,
    "learning_rate": 1e-2,
    "adapter": {"type": "lora", "r": 8},
    "evaluate_every": 2,
    "samples": 0,
}
METHODS: dict[str, Any] = {
    # Checkpoints lie between two rounds of answers.
    "grpo": Grpo(**SHORT, steps=5, batch_size=8, num_generations=4, num_iterations=2, beta=0.1, save_every=3),
    "online-dpo": OnlineDpo(**SHORT, steps=4, batch_size=4, save_every=3),
}


@pytest.mark.parametrize("name", ["grpo", pytest.param("online-dpo", marks=pytest.mark.whole)])
def test_two_processes_draw_together_and_resume_to_the_same_bytes(
    name: str, base: Model, make_prompts: Any, tmp_path: Path
) -> None:
    method, data = METHODS[name], make_prompts(held_out=PROMPTS[:3])
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    wanted = Together(method, base, data, folders[0])
    assert wanted.exits == [0, 0], wanted.problems
    assert len(wanted.losses) == method.steps

    def die(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["done"] == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    killed = Together(method, base, data, folders[1], send=die)
    assert any(killed.exits)
    again = Together(method, base, data, folders[1])
    assert again.exits == [0, 0], again.problems
    assert "resuming after step 3" in again.log
    assert again.files() == wanted.files()
    assert again.figures == wanted.figures
    assert again.losses == wanted.losses[3:]
