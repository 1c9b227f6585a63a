"""What a plan says of PPO before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import REPOSITORY
from tuneforge import Adapter, Facts, Model, RewardAdapter, RewardModel
from tuneforge.plan import make_plan
from tuneforge.recipe import read_recipe
from tuneforge_ppo.ppo import Ppo
from tuneforge_registry import Registry


def problems(options: dict[str, Any], **facts: Any) -> list[str]:
    return [finding.problem for finding in Ppo(**options).check({name: [given] for name, given in facts.items()})]


def test_the_recipe_is_planned_without_a_word(tmp_path: Path) -> None:
    plan = make_plan(read_recipe(REPOSITORY / "recipes" / "rlhf-ppo.yaml"), Registry(tmp_path))
    assert [str(finding) for finding in plan.findings] == []
    environments = {step.name: step.environment.own for step in plan.steps.values() if step.environment}
    assert environments["ppo"] and not any(own for name, own in environments.items() if name != "ppo")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"batch_size": 10, "mini_batches": 3}, "batch_size 10 does not divide into 3 mini batches"),
        ({"batch_size": 16, "mini_batches": 2, "micro_batch_size": 3}, "a mini batch of 8 cannot be made of micro"),
        ({"batch_size": 4, "whiten_rewards": True}, "the variance of the rewards of 4 answers says little"),
    ],
)
def test_how_a_step_is_split_up(options: dict[str, Any], problem: str) -> None:
    (found,) = problems(options)
    assert found.startswith(problem)


def test_a_mini_batch_is_split_evenly() -> None:
    assert Ppo(batch_size=64).micro_batch == 16
    assert Ppo(batch_size=36, mini_batches=2).micro_batch == 9
    assert Ppo(batch_size=34, mini_batches=2).micro_batch == 1
    assert Ppo(batch_size=64, micro_batch_size=32).micro_batch == 32


def model(kind: Any = Model, **config: Any) -> Facts:
    return Facts(kind, {"vocab_size": 100, "max_position_embeddings": 256, **config}, template="{{ messages }}")


def test_models_that_do_not_fit_together(tmp_path: Path) -> None:
    assert problems({}, model=model(), reward_model=model(RewardModel)) == []
    (found,) = problems({}, model=model(), reward_model=model(RewardModel, vocab_size=200))
    assert "different vocabularies" in found
    (found,) = problems({"max_new_tokens": 200, "max_length": 100}, model=model())
    assert "do not fit into the model's context of 256" in found
    prefix = Facts(Adapter, {"peft_type": "PREFIX_TUNING"}, template="{{ messages }}", base=model())
    (found,) = problems({}, model=prefix)
    assert "the adapter is a prompt" in found
    (found,) = problems({}, reward_model=Facts(RewardAdapter, {"peft_type": "PREFIX_TUNING"}, base=model()))
    assert "the reward model is a prompt" in found
    (found,) = problems({}, model=Facts(Model, {}, tokenizer=tmp_path))
    assert "no chat template" in found
    (found,) = problems({}, model=model(quantization_config={"load_in_4bit": True}))
    assert "a quantized model" in found


def test_what_comes_of_it() -> None:
    assert Ppo().writes({"model": [Model]}) is Model and Ppo().writes({"model": [Adapter]}) is Adapter
    given = model(Adapter)
    assert Ppo().foresee({"model": [given]}) is given
