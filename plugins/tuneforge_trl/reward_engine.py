"""A reward model by TRL's RewardTrainer, on pairs that are tokenized here."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from trl import RewardConfig, RewardTrainer  # type: ignore[attr-defined]

from tuneforge import Model, PreferenceData, Step
from tuneforge.kit.chats import chat_ids
from tuneforge.kit.models import load_tokenizer, save_model, stored_dtype, tokenizer_folder
from tuneforge.kit.rewards import new_reward_model, score_padding
from tuneforge.kit.rows import read_rows

from .loading import load_for_training, longest_row
from .loop import Quiet, fit, save
from .reward import Reward
from .rows.batches import Grouped
from .rows.pairs import SIDES, Collator, Pairwise, real_count, sizes
from .rows.tokens import HELD_OUT_TOKENS, Columns, Row, check_fit, read_tokens, write_tokens
from .settings import arguments, settle
from .spread.ranks import whole_state
from .spread.sharding import strategy_arguments
from .watching.evaluation import HeldOut

_FIGURES = {"reward_accuracy": "accuracy", "reward_margin": "margin", "reward": "mean_reward"}


_NEGLIGIBLE = -1e4
"""A margin so low that a pair has no loss, and no gradient."""


class _Trainer(Pairwise, Quiet, Grouped, RewardTrainer):
    def blank(self, row: Any) -> Any:
        return super().blank(row) | {"margin": [_NEGLIGIBLE]}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        seen = self._metrics["train"]
        if seen.get("accuracy"):
            # Under the names that DPO's figures have, too.
            for name, values in (("rewards/accuracies", seen["accuracy"]), ("rewards/margins", seen["margin"])):
                logs[name] = sum(values) / len(values)
        super().log(logs, start_time)


def prepare(options: Reward, model: Model, data: PreferenceData, step: Step) -> None:
    """Writes both conversations of each pair as tokens, and by how much one is the better, into `step.scratch`."""
    tokenizer = load_tokenizer(model)
    longest = longest_row(model, options)

    def convert(row: Row) -> Columns:
        tools = row.get("tools")
        columns: Columns = {side: chat_ids(tokenizer, [*row["prompt"], *row[side]], tools) for side in SIDES}
        for ids in columns.values():
            check_fit(ids, ids, longest)
        return columns | {"margin": [float(row.get("margin") or 0)]}

    write_tokens(read_rows(data, "train"), convert, "train", step)
    write_tokens(read_rows(data, "held_out"), convert, "held_out", step, HELD_OUT_TOKENS)


def train(options: Reward, model: Model, step: Step) -> None:
    """Fits a score head, with the whole model or an adapter, and writes what comes of it into `step.out`."""
    settle(step)
    tokenizer = load_tokenizer(model)
    tokenizer.pad_token_id = score_padding(tokenizer)
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    pairs = train.dataset
    tokens = sizes(pairs)
    step.metrics(pairs=train.kept, tokens=sum(tokens), left_out=train.left_out)
    rate = options.rate(full=1e-5, adapter=1e-4, is_adapter=options.adapter is not None)
    settings = arguments(options, step, lengths=tokens, learning_rate=rate, model=model)

    # Before the model: how it is loaded depends on how it will be spread.
    args = RewardConfig(
        **(settings | strategy_arguments(step, model)),
        center_rewards_coefficient=options.center or None,
        disable_dropout=False,
        max_length=None,
        remove_unused_columns=False,
    )

    def load(model: Model, *, dtype: torch.dtype, trainable: bool, on: torch.device | None, quantization: Any) -> Any:
        return new_reward_model(model, dtype=dtype, seed=step.seed, on=on, quantization=quantization)

    # PEFT trains the score head as a whole, and keeps it with the adapter.
    adapted = load_for_training(model, options, step, settings["max_steps"], task="SEQ_CLS", load=load)
    trainer = _Trainer(
        model=adapted.model,
        args=args,
        data_collator=Collator(tokenizer.pad_token_id),
        train_dataset=pairs,
        processing_class=tokenizer,
        peft_config=adapted.config,
        callbacks=adapted.callbacks,
    )
    trainer.row_lengths = tokens
    fit(trainer, options, step, HeldOut(held_out, real_count, _FIGURES))
    if held_out.kept:
        step.metrics(eval_pairs=held_out.kept)
    trained: Any = trainer.model
    if isinstance(trained, PeftModel):
        save(trainer, model, step, adapted)
        return
    state = whole_state(trainer)
    if not step.rank:
        save_model(trained, tokenizer_folder(model), step.out, stored_dtype(model), state=state)
