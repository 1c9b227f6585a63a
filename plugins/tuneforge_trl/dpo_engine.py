"""Direct preference optimization by TRL's DPOTrainer, on pairs that are tokenized and masked here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]

from tuneforge import Adapter, Model, PreferenceData, Step
from tuneforge.kit.chats import IGNORED, after_prompt, prompt_ids, tokenize_chat
from tuneforge.kit.models import load_model
from tuneforge.kit.rows import read_rows

from .adapters.reference import make_alike
from .dpo import Dpo
from .loading import load_for_training, longest_row, padding_tokenizer, placed
from .loop import Quiet, fit, save
from .rows.batches import Grouped
from .rows.pairs import SIDES, Collator, Pairwise, pair_count, sizes
from .rows.tokens import HELD_OUT_TOKENS, Columns, Row, check_fit, read_tokens, write_tokens
from .settings import arguments, compute_dtype, settle
from .spread.sharding import strategy_arguments
from .watching.evaluation import HeldOut
from .watching.samples import chat_prompts, write_prompts, written_chats

_FIGURES = {"reward_accuracy": "rewards/accuracies", "reward_margin": "rewards/margins"}


class _Trainer(Pairwise, Quiet, Grouped, DPOTrainer):
    def blank(self, row: Any) -> Any:
        return super().blank(row) | {"rejected_mask": row["chosen_mask"]}

    @property
    def undecided(self) -> float:
        return _UNDECIDED[self.loss_types[0]](self.beta)


def prepare(options: Dpo, model: Model | Adapter, data: PreferenceData, step: Step) -> None:
    """Writes both answers of each pair as tokens, with a mask of what the assistant wrote, into `step.scratch`."""
    tokenizer = padding_tokenizer(model)
    longest = longest_row(model, options)

    def convert(row: Row) -> Columns:
        prompt = prompt_ids(tokenizer, row["prompt"], row.get("tools"))
        columns: Columns = {}
        for side in SIDES:
            conversation = tokenize_chat(tokenizer, [*row["prompt"], *row[side]], row.get("tools"))
            tokens = after_prompt(conversation, prompt)
            check_fit(tokens.ids, tokens.labels, longest)
            columns |= {side: tokens.ids, f"{side}_mask": [int(label != IGNORED) for label in tokens.labels]}
        return columns

    write_tokens(read_rows(data, "train"), convert, "train", step)
    write_tokens(read_rows(data, "held_out"), convert, "held_out", step, HELD_OUT_TOKENS)
    asked = ((row["prompt"], row.get("tools")) for row in read_rows(data, "held_out"))
    write_prompts(options, chat_prompts(tokenizer, asked), written_chats(tokenizer, options), step)


def align(options: Dpo, model: Model | Adapter, step: Step) -> None:
    """Fits `model` to the preferences that were prepared and writes what comes of it into `step.out`."""
    settle(step)
    tokenizer = padding_tokenizer(model)
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    pairs = train.dataset
    tokens = sizes(pairs)
    step.metrics(pairs=train.kept, tokens=sum(tokens), left_out=train.left_out)
    whole = options.adapter is None and isinstance(model, Model)
    rate = options.rate(full=1e-6, adapter=1e-5, is_adapter=not whole)
    # An adapter needs none: the base with the adapter switched off, or a copy of the adapter, is the reference.
    settings = arguments(options, step, lengths=tokens, learning_rate=rate, model=model)
    # Before the models: how they are loaded depends on how they will be spread.
    args = DPOConfig(
        **(settings | strategy_arguments(step, model)),
        beta=options.beta,
        loss_type=[options.loss],
        max_length=None,
        remove_unused_columns=False,
    )
    reference: Any = load_model(model, dtype=compute_dtype(options), on=placed(step)) if whole else None
    adapted = load_for_training(model, options, step, settings["max_steps"])
    trainer = _Trainer(
        model=adapted.model,
        ref_model=reference,
        args=args,
        data_collator=Collator(tokenizer.pad_token_id),
        train_dataset=pairs,
        processing_class=tokenizer,
        peft_config=adapted.config,
        callbacks=adapted.callbacks,
    )
    make_alike(trainer.model)
    trainer.row_lengths = tokens
    fit(trainer, options, step, HeldOut(held_out, pair_count, _FIGURES))
    if held_out.kept:
        step.metrics(eval_pairs=held_out.kept)
    save(trainer, model, step, adapted)


_UNDECIDED: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda _: math.log(2),
    "hinge": lambda _: 1.0,
    "ipo": lambda beta: (1 / (2 * beta)) ** 2,
}
"""The loss of a pair whose answers are equally likely, by beta."""
