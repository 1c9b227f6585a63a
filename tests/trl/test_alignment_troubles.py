"""Every trouble of alignment is provoked in a real training, and named by its monitor."""

from __future__ import annotations

from typing import Any

import pytest

from tests.trl.colours import PAIRS, PROMPTS
from tests.trl.test_monitor import told
from tuneforge import Model
from tuneforge_trl.online.grpo import Grpo
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.sft import Sft

pytestmark = pytest.mark.slow

DRAWN = {"batch_size": 56, "num_generations": 8, "schedule": "constant", "warmup": 0, "samples": 0}


@pytest.fixture(scope="module")
def tuned(base: Model, make_chats: Any, carry_out: Any) -> Model:
    """A model that knows the colours."""
    result: Model = carry_out(Sft(steps=60, batch_size=7, learning_rate=5e-3), base, make_chats()).result
    return result


def test_a_reward_that_is_got_by_worse_and_longer_answers(tuned: Model, make_prompts: Any, carry_out: Any) -> None:
    """Length is what is rewarded; whether the answer is right is only watched."""
    rewards = [{"type": "length", "least": 24, "slack": 23}, {"type": "exact", "weight": 0}]
    method = Grpo(**DRAWN, rewards=rewards, max_new_tokens=24, steps=32, learning_rate=3e-4, evaluate_every=4)
    run = carry_out(method, tuned, make_prompts(held_out=PROMPTS))
    assert set(told(run)) == {"reward hacking", "answers grow ever longer"}
    assert "the held-out reward exact has fallen from 1 to 0" in run.warnings[0]


def test_a_kl_that_runs_away(tuned: Model, make_prompts: Any, carry_out: Any) -> None:
    rewards = [{"type": "length", "most": 2, "slack": 8}]
    method = Grpo(**DRAWN, rewards=rewards, max_new_tokens=8, steps=6, learning_rate=5e-2, beta=1e-6)
    assert told(carry_out(method, tuned, make_prompts())) == ["the KL to the reference is running away"]


def test_an_accuracy_that_stays_at_a_coins(base: Model, make_pairs: Any, carry_out: Any) -> None:
    """By pairs that contradict each other."""
    swapped = [pair | {"chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in PAIRS]
    run = carry_out(Dpo(steps=40, batch_size=7, learning_rate=1e-3), base, make_pairs([*PAIRS, *swapped]))
    assert any(problem.startswith("the accuracy is stuck at 4") for problem in run.warnings), run.warnings


def test_chosen_answers_that_become_unlikely(tuned: Model, make_pairs: Any, carry_out: Any) -> None:
    method = Dpo(steps=40, batch_size=7, learning_rate=3e-2, beta=0.01, warmup=0.5)
    assert told(carry_out(method, tuned, make_pairs())) == ["the chosen answers are becoming unlikely"]
