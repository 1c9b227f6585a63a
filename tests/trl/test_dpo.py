import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trl.colours import PAIRS
from tuneforge import Model, StepError
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.sft import Sft

pytestmark = pytest.mark.slow

LORA = {"type": "lora", "r": 8}


@pytest.fixture(scope="module")
def adapter(base: Model, make_chats: Any, carry_out: Any) -> Any:
    """An adapter that has begun to learn the chosen answers."""
    return carry_out(Sft(steps=5, batch_size=7, learning_rate=1e-2, adapter=LORA), base, make_chats())


@pytest.mark.parametrize("kind", ["whole", "new", "continued"])
def test_chosen_answers_become_likelier_than_rejected_ones(
    kind: str, base: Model, adapter: Any, make_pairs: Any, carry_out: Any
) -> None:
    rate = 1e-3 if kind == "whole" else 1e-2
    method = Dpo(steps=8, batch_size=7, learning_rate=rate, adapter=LORA if kind == "new" else None)
    model = adapter.result if kind == "continued" else base
    run = carry_out(method, model, make_pairs(held_out=PAIRS))
    # To begin with, the model is the reference: had it another one, the loss would be another.
    assert run.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert run.losses[-1] < 0.5
    assert run.figures["eval_reward_accuracy"] == 1
    assert run.figures["eval_reward_margin"] > 0.5
    assert run.figures["eval_loss"] < 0.5
    assert (run.figures["pairs"], run.figures["eval_pairs"], run.figures["steps"]) == (7, 7, 8)
    assert run.step.base == (None if kind == "whole" else base.digest)


def test_of_a_continued_adapter_only_the_trained_one_is_kept(
    adapter: Any, base: Model, make_pairs: Any, carry_out: Any
) -> None:
    run = carry_out(Dpo(steps=2, learning_rate=1e-2), adapter.result, make_pairs())
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (adapter.step.out, run.step.out))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert run.files().keys() == adapter.files().keys()
    assert run.files()["adapter_config.json"] == adapter.files()["adapter_config.json"]
    assert run.figures["trainable_parameters"] == adapter.figures["trainable_parameters"]
    assert run.figures["total_parameters"] == adapter.figures["total_parameters"]


@pytest.mark.parametrize(("loss", "first"), [("hinge", 1.0), ("ipo", 1 / (2 * 0.2) ** 2)])
def test_other_losses(loss: str, first: float, base: Model, make_pairs: Any, carry_out: Any) -> None:
    run = carry_out(Dpo(steps=6, batch_size=7, beta=0.2, loss=loss, learning_rate=1e-3), base, make_pairs())
    assert run.losses[0] == pytest.approx(first, abs=1e-5)
    assert run.losses[-1] < 0.9 * first


def test_the_split_of_a_batch_does_not_matter(base: Model, make_pairs: Any, carry_out: Any) -> None:
    # Seven pairs in batches of four: the last batch is a smaller one.
    runs = [
        carry_out(Dpo(epochs=3, batch_size=4, micro_batch_size=micro, learning_rate=1e-3), base, make_pairs())
        for micro in (1, 2, 4)
    ]
    assert [run.figures["steps"] for run in runs] == [6, 6, 6]
    for run in runs[1:]:
        assert run.losses == pytest.approx(runs[0].losses, rel=1e-4)


def test_only_the_answer_counts(base: Model, make_pairs: Any, carry_out: Any) -> None:
    """An answer of the prompt's own, earlier in the conversation, is no part of what is compared."""
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]
    run = carry_out(Dpo(steps=1), base, make_pairs([{**pair, "prompt": history + pair["prompt"]} for pair in PAIRS]))
    from datasets import Dataset

    from tuneforge.kit.models import load_tokenizer

    tokenizer = load_tokenizer(base)
    for row, pair in zip(Dataset.from_file(str(run.step.scratch / "rows" / "train.arrow")), PAIRS, strict=True):
        for side in ("chosen", "rejected"):
            compared = [token for token, counts in zip(row[side], row[f"{side}_mask"], strict=True) if counts]
            assert tokenizer.decode(compared) == f"{pair[side][0]['content']}<|im_end|>"


def test_long_pairs_are_left_out_and_counted(base: Model, make_pairs: Any, carry_out: Any) -> None:
    long = {**PAIRS[0], "rejected": [{"role": "assistant", "content": "no " * 80}]}
    run = carry_out(Dpo(steps=1, max_length=64), base, make_pairs([*PAIRS, long]))
    assert run.figures["left_out"] == {"longer than 64 tokens": 1}
    with pytest.raises(StepError, match=r"no row is left \(1 longer than 64 tokens\)"):
        carry_out(Dpo(steps=1, max_length=64), base, make_pairs([long]))


def test_nothing_is_printed(base: Model, make_pairs: Any, carry_out: Any, capfd: pytest.CaptureFixture[str]) -> None:
    carry_out(Dpo(steps=2, gradient_checkpointing=True), base, make_pairs(held_out=PAIRS))
    assert capfd.readouterr().out == ""
