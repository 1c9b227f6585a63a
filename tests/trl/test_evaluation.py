"""Held-out rows on the way: what is measured, what is kept, and that a training goes on as if nothing had been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trl.colours import CHATS, MISTAKEN, PAIRS
from tests.trl.test_resume import killed_at
from tuneforge import Model
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.sft import Sft
from tuneforge_trl.watching.evaluation import plan
from tuneforge_trl.watching.options import Watching

OVERFIT = {"steps": 48, "batch_size": 7, "learning_rate": 5e-3, "evaluate_every": 4, "samples": 0}
LORA = {"type": "lora", "r": 8, "dropout": 0.2}


def curve(run: Any) -> dict[float, float]:
    """The held-out loss after each step at which it was measured."""
    told = (event for event in run.events if event["event"] == "progress" and "eval_loss" in event["figures"])
    return {event["done"]: event["figures"]["eval_loss"] for event in told}


def sampled(run: Any) -> list[tuple[float, str, str]]:
    return [(told["done"], told["prompt"], told["answer"]) for told in run.events if told["event"] == "sample"]


@pytest.mark.parametrize(
    ("options", "steps", "learnt", "held_out", "every", "rows"),
    [
        ({}, 200, 120_000, [70] * 300, 50, 65),  # four times, 4,500 tokens each
        ({}, 1000, 999_000, [100] * 400, 200, 300),
        ({}, 20, 20_000, [100] * 400, 0, 0),  # too short to be worth it
        ({}, 100, 100_000, [100] * 5, 20, 5),
        ({}, 3, 100_000, [100] * 5, 1, 5),
        ({}, 100, 100_000, [], 0, 0),
        ({"evaluate_every": 0}, 1000, 1_000_000, [100] * 400, 0, 0),
        ({"evaluate_every": 7}, 20, 20_000, [100] * 400, 7, 41),
        ({"evaluate_every": 7}, 20, 20_000, [], 0, 0),
    ],
)
def test_how_often_and_on_how_many_rows(
    options: dict[str, Any], steps: int, learnt: float, held_out: list[int], every: int, rows: int
) -> None:
    assert plan(Watching(**options), steps, learnt, held_out) == (every, rows)


@pytest.mark.slow
def test_the_best_on_the_held_out_rows_is_kept(base: Model, make_chats: Any, carry_out: Any) -> None:
    data = make_chats(CHATS, MISTAKEN)
    best, last = (carry_out(Sft(**OVERFIT, keep=keep), base, data) for keep in (None, "last"))
    losses = curve(best)
    assert list(losses) == list(range(4, 49, 4)) and losses == curve(last)
    least = min(losses, key=losses.__getitem__)
    assert least < 44
    assert (best.figures["kept_step"], last.figures["kept_step"]) == (least, 48)
    assert best.figures["eval_loss"] == pytest.approx(losses[least], rel=1e-6), "measured again after the training"
    assert last.figures["eval_loss"] == losses[48]
    assert best.files() != last.files()
    assert f"kept: step {least} of 48, with the lowest held-out loss ({losses[least]:.4g})" in best.log


@pytest.mark.slow
def test_patience_ends_a_training(base: Model, make_chats: Any, carry_out: Any) -> None:
    data = make_chats(CHATS, MISTAKEN)
    run = carry_out(Sft(**OVERFIT, patience=2), base, data)
    least, end = run.figures["kept_step"], run.figures["steps"]
    assert end == least + 8 < 48
    assert "no lower held-out loss for 2 measurements: the training ends here" in run.log
    assert carry_out(Sft(**OVERFIT), base, data).files() == run.files(), "the same was best"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_training_goes_on_as_if_it_had_not_been_measured(
    kind: str, base: Model, make_chats: Any, make_pairs: Any, carry_out: Any
) -> None:
    common = {"steps": 6, "batch_size": 2, "learning_rate": 1e-2, "keep": "last"}
    if kind == "sft":
        method: Any = Sft(**common, adapter=LORA, packing=True, max_length=64)
        data = make_chats(CHATS, CHATS[:4])
    else:
        method, data = Dpo(**common, adapter={"r": 8}), make_pairs(PAIRS, PAIRS[:4])
    plain = carry_out(method.model_copy(update={"evaluate_every": 0}), base, data)
    watched = carry_out(method.model_copy(update={"evaluate_every": 2, "samples": 2}), base, data)
    assert watched.files() == plain.files()
    assert watched.losses == plain.losses
    assert list(curve(watched)) == [2, 4, 6] and not curve(plain)
    assert len(sampled(watched)) == 8 and not sampled(plain)
    assert curve(watched)[6] == watched.figures["eval_loss"] == pytest.approx(plain.figures["eval_loss"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole", "lora", pytest.param("dpo", marks=pytest.mark.whole)])
def test_killed_and_started_again_the_same_is_kept(
    kind: str, base: Model, whole: Any, make_chats: Any, make_pairs: Any, carry_out: Any, tmp_path: Path
) -> None:
    """The best was before the checkpoint that it goes on from, and is in it: what it unlearns is held out."""
    common = {"steps": 12, "batch_size": 7, "learning_rate": 5e-3, "evaluate_every": 2, "save_every": 10, "samples": 1}
    if kind == "dpo":
        swapped = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in PAIRS]
        method: Any = Dpo(**common, adapter={"r": 8})
        data = make_pairs(PAIRS, swapped)
    else:
        method = Sft(**common, adapter=LORA if kind == "lora" else None)
        data, base = make_chats(MISTAKEN, CHATS), whole.result
    wanted = carry_out(method, base, data)
    assert wanted.figures["kept_step"] <= 10
    killed_at(11, tmp_path, method, base, data, carry_out)
    again = carry_out(method, base, data, tmp_path)
    assert again.log[0] == "resuming after step 10"
    assert again.files() == wanted.files()
    assert again.figures == wanted.figures
    assert sampled(again) == sampled(wanted), "also those of before"


@pytest.mark.slow
def test_answers_change_on_the_way(base: Model, make_chats: Any, carry_out: Any) -> None:
    method = Sft(steps=60, batch_size=7, learning_rate=5e-3, evaluate_every=30, sample_tokens=8)
    found = sampled(carry_out(method, base, make_chats(held_out=CHATS[:4])))
    assert [done for done, _, _ in found] == [0] * 3 + [30] * 3 + [60] * 3
    assert [prompt for _, prompt, _ in found] == ["sky", "grass", "snow"] * 3
    assert [answer for done, _, answer in found if done == 60] == ["blue", "green", "white"]
    assert [answer for done, _, answer in found if done == 0] != ["blue", "green", "white"]


@pytest.mark.slow
def test_prompts_of_ones_own_are_answered_without_held_out_rows(base: Model, make_chats: Any, carry_out: Any) -> None:
    run = carry_out(Sft(steps=10, batch_size=7, samples=["sky", "x " * 300], patience=1), base, make_chats())
    assert [(done, prompt) for done, prompt, _ in sampled(run)] == [(done, "sky") for done in (0, 2, 4, 6, 8, 10)]
    assert run.warnings == ["patience has nothing to go by: the held-out loss is not measured on the way"]
    assert "kept_step" not in run.figures and run.figures["steps"] == 10


def test_what_cannot_be_is_found_by_the_plan() -> None:
    method = Sft(evaluate_every=0, keep="best", patience=2, samples=-1, monitor={"stop_on": ["nan"], "ignore": ["nan"]})
    assert [finding.field for finding in method.check({})] == ["keep", "patience", "samples", "monitor.ignore"]
    assert list(Sft().check({})) == []
