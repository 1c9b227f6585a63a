"""Losses of preferences are what their papers say, by log-probabilities from a plain forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tests.trl.colours import FEEDBACK, PAIRS
from tuneforge import Model
from tuneforge.kit.models import load_model, load_tokenizer
from tuneforge_trl.preferences import losses
from tuneforge_trl.preferences.cpo import Cpo
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.preferences.kto import Kto
from tuneforge_trl.preferences.orpo import Orpo
from tuneforge_trl.preferences.simpo import Simpo

ONE: dict[str, Any] = {"steps": 1, "batch_size": 7, "micro_batch_size": 7}
LOG = math.log


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


class Plain:
    """A model, asked by itself: the log-probability of an answer, token by token."""

    def __init__(self, model: Model) -> None:
        self._tokenizer: Any = load_tokenizer(model)
        self._model: Any = load_model(model, dtype=torch.float32)

    def __call__(self, prompt: Sequence[Any], answer: Sequence[Any]) -> list[float]:
        before = self._tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        start = len(self._tokenizer(before, add_special_tokens=False)["input_ids"])
        text = before + answer[0]["content"] + "<|im_end|>"
        ids = torch.tensor(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            told = self._model(input_ids=ids[None]).logits[0].float().log_softmax(-1)
        return [float(told[place - 1, ids[place]]) for place in range(start, len(ids))]


@pytest.fixture(scope="module")
def asked(base: Model, whole: Any) -> tuple[Plain, Plain]:
    """The trained model, and the one before it."""
    return Plain(whole.result), Plain(base)


Sides = tuple[list[float], list[float], list[float], list[float]]
"""Log-probabilities of the tokens of the chosen and the rejected answer: the model's, and the reference's."""


def margin(sides: Sides) -> float:
    chosen, rejected, chosen_before, rejected_before = map(sum, sides)
    return (chosen - chosen_before) - (rejected - rejected_before)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def odds(values: Sequence[float]) -> float:
    """The log odds of an answer whose probability is the geometric mean of its tokens'."""
    p = math.exp(mean(values))
    return LOG(p / (1 - p))


def ipo(sides: Sides) -> float:
    chosen, rejected, chosen_before, rejected_before = map(mean, sides)
    return (chosen - chosen_before - rejected + rejected_before - 1 / (2 * 0.2)) ** 2


BY_HAND: dict[str, tuple[Any, Callable[[Sides], float]]] = {
    "sigmoid": (Dpo(**ONE, beta=0.2), lambda sides: -LOG(sigmoid(0.2 * margin(sides)))),
    "conservative": (
        Dpo(**ONE, beta=0.2, label_smoothing=0.1),
        lambda sides: -0.9 * LOG(sigmoid(0.2 * margin(sides))) - 0.1 * LOG(sigmoid(-0.2 * margin(sides))),
    ),
    "hinge": (Dpo(**ONE, beta=0.02, loss="hinge"), lambda sides: max(0, 1 - 0.02 * margin(sides))),
    "ipo": (Dpo(**ONE, beta=0.2, loss="ipo"), ipo),
    "weighted": (
        Dpo(**ONE, beta=0.2, loss={"sigmoid": 0.5, "sft": 2.0}),
        lambda sides: -0.5 * LOG(sigmoid(0.2 * margin(sides))) - 2 * mean(sides[0]),
    ),
    "reference-free": (
        Dpo(**ONE, beta=0.2, reference_free=True),
        lambda sides: -LOG(sigmoid(0.2 * (sum(sides[0]) - sum(sides[1])))),
    ),
    "orpo": (
        Orpo(**ONE, beta=0.3),
        lambda sides: -mean(sides[0]) - 0.3 * LOG(sigmoid(odds(sides[0]) - odds(sides[1]))),
    ),
    "cpo": (
        Cpo(**ONE, beta=0.05, alpha=0.5),
        lambda sides: -LOG(sigmoid(0.05 * (sum(sides[0]) - sum(sides[1])))) - 0.5 * mean(sides[0]),
    ),
    "simpo": (
        Simpo(**ONE, beta=0.7, margin=0.4),
        lambda sides: -LOG(sigmoid(0.7 * mean(sides[0]) - 0.7 * mean(sides[1]) - 0.4)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_HAND)
def test_the_loss_of_pairs(
    name: str, base: Model, whole: Any, asked: tuple[Plain, Plain], make_pairs: Any, carry_out: Any
) -> None:
    method, loss = BY_HAND[name]
    known = [
        [plain(pair["prompt"], pair[side]) for plain in asked for side in ("chosen", "rejected")] for pair in PAIRS
    ]
    wanted = mean([loss(tuple(sides)) for sides in known])  # type: ignore[arg-type]
    reference = base if method.refers else None
    run = carry_out(method, whole.result, make_pairs(), reference=reference)
    assert run.losses == [pytest.approx(wanted, rel=2e-4)]


@pytest.mark.slow
def test_the_loss_of_kto(
    base: Model, whole: Any, asked: tuple[Plain, Plain], make_feedback: Any, carry_out: Any
) -> None:
    """Each prompt goes with an answer to the next one for the divergence, which is one for all rows."""
    now, before = asked

    def ratio(prompt: Any, answer: Any) -> float:
        return sum(now(prompt, answer)) - sum(before(prompt, answer))

    prompts = [pair["prompt"] for pair in PAIRS]
    others = []
    for row in FEEDBACK:
        following = prompts[(prompts.index(row["prompt"]) + 1) % len(prompts)]
        answers = [other["answer"] for other in FEEDBACK if other["prompt"] == following]
        place = [other for other in FEEDBACK if other["prompt"] == row["prompt"]].index(row)
        others.append(answers[place % len(answers)])
    kl = max(0, mean([ratio(row["prompt"], other) for row, other in zip(FEEDBACK, others, strict=True)]))
    parts = []
    for row in FEEDBACK:
        gain = 0.05 * (ratio(row["prompt"], row["answer"]) - kl)
        parts.append(0.8 * (1 - sigmoid(gain)) if row["label"] else 1.5 * (1 - sigmoid(-gain)))
    method = Kto(steps=1, batch_size=10, micro_batch_size=5, beta=0.05, desirable_weight=0.8, undesirable_weight=1.5)
    run = carry_out(method, whole.result, make_feedback(), reference=base)
    assert run.losses == [pytest.approx(mean(parts), rel=2e-4)]
    (told,) = [event["figures"] for event in run.events if event["event"] == "progress"]
    assert told["kl_answer"] == pytest.approx(kl, rel=1e-3, abs=1e-4)


def pairs(chosen: float, rejected: float, chosen_before: float = 0.0, rejected_before: float = 0.0) -> losses.Pairs:
    given = (chosen, rejected, 2.0, 4.0, chosen_before, rejected_before)
    return losses.Pairs(*(torch.tensor([value], dtype=torch.float64) for value in given))


U, V = 0.1 * (-3.0 + 5.0), 0.1 * (-9.0 + 7.0)  # beta times the log ratios of the two answers below
TOLD = {
    "sigmoid_norm": -LOG(sigmoid(U / 2 - V / 4)),
    "exo_pair": sigmoid(U - V) * LOG(sigmoid(U - V) / 0.99) + sigmoid(V - U) * LOG(sigmoid(V - U) / 0.01),
    "nca_pair": -LOG(sigmoid(U)) - 0.5 * LOG(sigmoid(-U)) - 0.5 * LOG(sigmoid(-V)),
    "robust": (-0.99 * LOG(sigmoid(U - V)) + 0.01 * LOG(sigmoid(V - U))) / 0.98,
    "bco_pair": -LOG(sigmoid(U)) - LOG(sigmoid(-V)),
    "sppo_hard": (2 - 5) ** 2 + (-2 + 5) ** 2,
    "apo_zero": 1 - sigmoid(U) + sigmoid(V),
    "apo_down": sigmoid(U) + 1 - sigmoid(U - V),
    "discopop": -LOG(sigmoid(U - V)) * (1 - sigmoid((U - V) / 0.05)) + math.exp(V - U) * sigmoid((U - V) / 0.05),
    "sft": 1.5,
}


@pytest.mark.parametrize("name", TOLD)
def test_the_other_losses_of_dpo(name: str) -> None:
    found = losses.DPO[name](pairs(-3.0, -9.0, -5.0, -7.0), 0.1, 0.01)
    assert found.tolist() == [pytest.approx(TOLD[name], rel=1e-9)]


def test_every_loss_is_compared_with_its_formula() -> None:
    assert losses.DPO.keys() == {*TOLD, "sigmoid", "hinge", "ipo"}


def test_an_answer_that_is_certain_has_a_finite_loss() -> None:
    found = losses.Orpo(0.1).losses(pairs(0.0, -9.0))
    assert torch.isfinite(found).all()
