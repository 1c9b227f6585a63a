"""PPO in the environment of the TRL that has it: rewards rise, and a killed training ends with the same bytes.

The environment is made in the first run of all, from a package index that uv can reach.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ppo.conftest import Done, Place
from tests.trl.colours import COLOURS
from tuneforge import Adapter, Model, PromptData
from tuneforge.kit.chats import prompt_ids
from tuneforge.kit.generation import generate
from tuneforge.kit.models import load_model, load_tokenizer
from tuneforge.kit.rewards import judge, load_reward_model
from tuneforge_ppo.ppo import Ppo

pytestmark = [pytest.mark.slow, pytest.mark.network]

SHORT = {"batch_size": 14, "passes": 2, "max_new_tokens": 8, "missing_eos_penalty": 1.0}
MARGIN = 0.5
"""By how much the mean reward of held-out prompts must rise."""


def rewards(model: Any, reward_model: Any) -> tuple[float, list[str]]:
    """The mean score of the model's greedy answers, and the answers, in the tests' own environment."""
    tokenizer = load_tokenizer(model)
    prompts = [[{"role": "user", "content": thing}] for thing in COLOURS]
    given = generate(
        load_model(model, dtype=torch.float32), tokenizer, [prompt_ids(tokenizer, prompt) for prompt in prompts], 8, 7
    )
    texts = [answer.text for answer in given]
    conversations = [
        ([*prompt, {"role": "assistant", "content": text}], None) for prompt, text in zip(prompts, texts, strict=True)
    ]
    scores = judge(load_reward_model(reward_model, dtype=torch.float32), load_tokenizer(reward_model), conversations, 7)
    return sum(scores) / len(scores), texts


def result(done: Done, model: Any) -> Any:
    done.files()
    out = done.folder / "out"
    kind = type(model)
    assert not list(kind.missing(out))
    return kind(out, "f" * 64, model.base)


def test_the_tests_own_environment_is_as_it_was(place: Place) -> None:
    assert place.before == place.after
    assert "incompatible" not in place.after[1]


def test_an_adapter_learns_what_is_rewarded_and_resumes(
    adapters: dict[str, Any], prompts: PromptData, align: Any, place: Place, tmp_path: Path
) -> None:
    method = Ppo(**SHORT, steps=6, mini_batches=2, learning_rate=2e-3, save_every=3, evaluate_every=3)
    inputs = {**adapters, "data": prompts}
    done = align(method, inputs)
    figures = done.figures
    assert done.outcome.base == adapters["model"].base.digest
    assert figures["eval_reward"] > figures["eval_reward_before"] + MARGIN
    trained = result(done, adapters["model"])
    assert isinstance(trained, Adapter)
    before, _ = rewards(adapters["model"], adapters["reward_model"])
    after, answers = rewards(trained, adapters["reward_model"])
    assert after > before + MARGIN
    assert answers == [*COLOURS.values()], "and they are as right as they were"
    told = [event["figures"] for event in done.told("progress")]
    assert len(told) == 6 and told[-1]["reward"] > told[0]["reward"]
    assert told[-1]["answer_tokens"] < told[0]["answer_tokens"]
    assert abs(told[0]["kl"]) < 0.05, "it begins as its reference"
    assert all(0 <= step["finished"] <= 1 and step["entropy"] > -0.01 for step in told)
    assert [event["done"] for event in done.told("sample")] == [0] * 3 + [3] * 3 + [6] * 3

    def kill(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["done"] == 4:
            os.kill(place.worker._child, signal.SIGKILL)

    dead = align(method, inputs, tmp_path, kill)
    assert "was killed" in dead.outcome.problem
    again = align(method, inputs, tmp_path)
    assert again.told("log")[0]["text"] == "resuming after step 3"
    assert again.files() == done.files()
    assert again.figures == figures


def test_a_full_model_learns_what_is_rewarded(whole: dict[str, Any], prompts: PromptData, align: Any) -> None:
    done = align(Ppo(**SHORT, epochs=8, learning_rate=1e-3), {**whole, "data": prompts})
    assert done.figures["eval_reward"] > done.figures["eval_reward_before"] + MARGIN
    trained = result(done, whole["model"])
    assert isinstance(trained, Model) and done.outcome.base is None
    assert rewards(trained, whole["reward_model"])[1] == [*COLOURS.values()]
    given = json.loads((whole["model"].path / "config.json").read_text())
    assert json.loads(done.files()["config.json"]) == given


def test_a_trouble_ends_the_training_where_it_is_told_to(
    adapters: dict[str, Any], prompts: PromptData, align: Any
) -> None:
    monitor = {"stop_on": ["kl"], "ignore": ["length"]}
    method = Ppo(**SHORT, steps=12, learning_rate=2e-2, kl_coef=0.0, samples=0, monitor=monitor)
    done = align(method, {**adapters, "data": prompts})
    assert done.outcome.problem.startswith("the KL to the reference is running away"), done.outcome.problem


@pytest.mark.whole
@pytest.mark.parametrize(
    "options",
    [
        {"whiten_rewards": True, "kl_estimator": "k3", "schedule": "cosine", "warmup": 0.2, "micro_batch_size": 7},
        {"precision": "bf16", "gamma": 0.99, "lam": 0.9, "temperature": 0.7, "value_coef": 0.5},
        {"kl_coef": 0.0, "clip_range": 0.1, "value_clip_range": 0.5, "max_grad_norm": 0.5, "schedule": "constant"},
    ],
)
def test_other_options(options: dict[str, Any], adapters: dict[str, Any], prompts: PromptData, align: Any) -> None:
    method = Ppo(**SHORT, steps=6, learning_rate=2e-3, samples=0, max_length=100, **options)
    done = align(method, {**adapters, "data": prompts})
    assert done.figures["eval_reward"] > done.figures["eval_reward_before"] + MARGIN
