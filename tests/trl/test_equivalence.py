"""However a step is computed, it is the same step: one loss and one gradient, on the real stack in float32.

The reference is computed here without any of it: row by row, neither padded nor packed, by transformers' own forward.
Floating-point numbers are added up in another order by each way. One addition is off by 6e-8 at most, and a few
thousand of them, mostly in both directions, by some 1e-7 of the whole: the bounds are ten times that for a loss and
thirty times for a gradient, and the ways that are wrong on purpose are off by hundreds of it.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tests.trl.colours import CHATS
from tuneforge import Model
from tuneforge.kit.chats import IGNORED, tokenize_chat
from tuneforge.kit.models import load_model, load_tokenizer
from tuneforge_trl import loop, sft_engine
from tuneforge_trl.sft import Sft

pytestmark = pytest.mark.slow

LOSS, GRADIENT, WRONG = 1e-6, 3e-6, 1e-4

# Sixteen conversations of many lengths, so that there is padding, and of many numbers of tokens under loss.
ROWS = [
    {"messages": [message for chat in (CHATS * 3)[first : first + turns] for message in chat["messages"]]}
    for first, turns in zip(range(16), (1, 4, 2, 3) * 4, strict=True)
]
ONE_STEP: dict[str, Any] = {"steps": 1, "batch_size": 16, "max_grad_norm": 1e9, "max_length": 256}

Step = tuple[float, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def reference(base: Model) -> Step:
    """The mean loss of all tokens under loss, and its gradient."""
    tokenizer, model = load_tokenizer(base), load_model(base, dtype=torch.float32, trainable=True)
    rows = [tokenize_chat(tokenizer, row["messages"]) for row in ROWS]
    count = sum(label != IGNORED for row in rows for label in row.labels[1:])
    total = 0.0
    for row in rows:
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels[1:]), reduction="sum") / count
        loss.backward()
        total += loss.item()
    return total, {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.fixture
def first_step(base: Model, make_chats: Any, carry_out: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Step]:
    """Carries out a training of one step; gives its loss and the gradient that the optimizer got."""

    def first_step(change: Callable[[Any], None] | None = None, **options: Any) -> Step:
        found: dict[str, torch.Tensor] = {}

        class Look(TrainerCallback):
            def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
                found.update({name: weight.grad.clone() for name, weight in model.named_parameters()})

        def fit(trainer: Any, *rest: Any) -> None:
            trainer.add_callback(Look())
            if change is not None:
                change(trainer)
            loop.fit(trainer, *rest)

        monkeypatch.setattr(sft_engine, "fit", fit)
        done = carry_out(Sft(**(ONE_STEP | options)), base, make_chats(train=ROWS))
        assert done.figures["rows"] == 16 and len(done.losses) == 1
        return done.losses[0], found

    return first_step


def apart(step: Step, reference: Step) -> tuple[float, float]:
    """How far the losses and the gradients are from each other, relative to the reference."""
    (loss, found), (wanted, gradient) = step, reference
    assert found.keys() == gradient.keys()
    difference = torch.cat([(found[name] - gradient[name]).flatten() for name in gradient]).norm()
    whole = torch.cat([one.flatten() for one in gradient.values()]).norm()
    return abs(loss - wanted) / wanted, float(difference / whole)


def same(step: Step, reference: Step) -> bool:
    loss, gradient = apart(step, reference)
    return loss < LOSS and gradient < GRADIENT


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"micro_batch_size": 16}, id="16 x 1"),
        pytest.param({"micro_batch_size": 1}, id="1 x 16"),
        pytest.param({"micro_batch_size": 4, "cross_entropy": "chunked"}, id="chunked"),
        pytest.param({"micro_batch_size": 4, "attention": "eager"}, id="eager"),
        pytest.param({"micro_batch_size": 1, "packing": True}, id="packed"),
        pytest.param({"micro_batch_size": 2, "packing": True, "cross_entropy": "chunked"}, id="packed, chunked"),
        pytest.param({"micro_batch_size": 1, "packing": True, "attention": "eager"}, id="packed, eager"),
        pytest.param({"micro_batch_size": 4, "gradient_checkpointing": True}, id="checkpointed"),
        pytest.param({"micro_batch_size": 4, "compile": True}, id="compiled", marks=pytest.mark.whole),
    ],
)
def test_the_same_step(options: dict[str, Any], first_step: Callable[..., Step], reference: Step) -> None:
    assert same(first_step(**options), reference)


def test_rows_one_after_the_other_without_padding(first_step: Callable[..., Step], reference: Step) -> None:
    """As with flash attention, which is for GPUs alone; what the other attentions make of such rows is the same."""

    def unpadded(trainer: Any) -> None:
        trainer.data_collator.padding_free = True

    assert same(first_step(unpadded, micro_batch_size=8), reference)


def test_packs_that_see_each_other_are_not_the_same(first_step: Callable[..., Step], reference: Step) -> None:
    def without_positions(trainer: Any) -> None:
        collate = trainer.data_collator
        trainer.data_collator = lambda rows: {
            name: column for name, column in collate(rows).items() if name != "position_ids"
        }

    loss, gradient = apart(first_step(without_positions, micro_batch_size=1, packing=True), reference)
    assert loss > WRONG and gradient > WRONG


def test_means_of_means_are_not_the_same(first_step: Callable[..., Step], reference: Step) -> None:
    def without_count(trainer: Any) -> None:
        trainer._get_num_items_in_batch = lambda *_: None
        trainer.model_accepts_loss_kwargs = False

    loss, gradient = apart(first_step(without_count, micro_batch_size=1), reference)
    assert loss > WRONG and gradient > WRONG


def test_padding_on_the_left_is_not_the_same(first_step: Callable[..., Step], reference: Step) -> None:
    """No mask is given: it is the padding on the right that keeps the padding out."""

    def flipped(trainer: Any) -> None:
        collate = trainer.data_collator

        def collate_left(rows: Any) -> Any:
            batch = collate(rows)
            spare = (batch["attention_mask"] == 0).sum(1)
            return {
                name: torch.stack([row.roll(int(count)) for row, count in zip(column, spare, strict=True)])
                for name, column in batch.items()
            }

        trainer.data_collator = collate_left

    loss, gradient = apart(first_step(flipped, micro_batch_size=16), reference)
    assert loss > WRONG and gradient > WRONG
