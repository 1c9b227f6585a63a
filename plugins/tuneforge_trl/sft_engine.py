"""Supervised fine-tuning by TRL's SFTTrainer, on rows that are tokenized and masked here."""

from __future__ import annotations

import math
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset
from trl import SFTConfig, SFTTrainer, pack_dataset  # type: ignore[attr-defined]

from tuneforge import Adapter, ChatData, Model, Step
from tuneforge.kit.chats import IGNORED, tokenize_chat
from tuneforge.kit.rows import read_rows

from .batches import Grouped
from .loading import load_for_training, longest_row, lora_config, padding_tokenizer
from .loop import Quiet, fit, save
from .rows import HELD_OUT_TOKENS, Columns, Row, check_fit, lengths, read_tokens, write_tokens
from .settings import arguments, settle
from .sft import Sft
from .token_loss import TokenLoss


class _Trainer(Quiet, Grouped, TokenLoss, SFTTrainer):
    pass


def prepare(options: Sft, model: Model | Adapter, data: ChatData, step: Step) -> None:
    """Writes the rows of `data` as tokens, with loss on the assistant's turns, into `step.scratch`."""
    tokenizer = padding_tokenizer(model)
    longest = longest_row(model, options)

    def convert(row: Row) -> Columns:
        tokens = tokenize_chat(tokenizer, row["messages"], row.get("tools"))
        check_fit(tokens.ids, tokens.labels, longest)
        return {"input_ids": tokens.ids, "labels": tokens.labels}

    write_tokens(read_rows(data, "train"), convert, "train", step)
    write_tokens(read_rows(data, "held_out"), convert, "held_out", step, HELD_OUT_TOKENS)


def fine_tune(options: Sft, model: Model | Adapter, step: Step) -> None:
    """Fits `model` to the rows that were prepared and writes what comes of it into `step.out`."""
    settle(step)
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    longest, rows = longest_row(model, options), train.dataset
    step.metrics(
        rows=train.kept,
        tokens=sum(lengths(rows, "input_ids")),
        tokens_under_loss=pc.sum(pc.not_equal(pc.list_flatten(rows.data.column("labels")), IGNORED)).as_py(),
        left_out=train.left_out,
    )
    if options.packing:
        # Neighbours in the data are often alike; packed together they would fill whole batches.
        rows = pack_dataset(rows.shuffle(seed=step.seed), longest)
        step.metrics(packs=len(rows))
    rate = options.rate(full=2e-5, adapter=2e-4, is_adapter=options.adapter is not None or isinstance(model, Adapter))
    trainer = _Trainer(
        cross_entropy=options.cross_entropy,
        model=load_for_training(model, options),
        args=SFTConfig(
            **arguments(options, step, lengths=lengths(rows, "input_ids"), learning_rate=rate),
            max_length=longest,
            packing=options.packing,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=rows,
        processing_class=padding_tokenizer(model),
        peft_config=lora_config(options.adapter),
    )
    trainer.row_lengths = lengths(rows, "input_ids")
    fit(trainer, options, step)
    if held_out.kept:
        step.metrics(eval_loss=_loss(trainer, held_out.dataset), eval_rows=held_out.kept)
    save(trainer, model, step)


def _loss(trainer: Any, rows: Dataset) -> float:
    """Mean loss over all tokens under loss."""
    losses, counts = [], []
    trainer.model.eval()
    for batch in trainer.get_eval_dataloader(rows):
        loss, _, _ = trainer.prediction_step(trainer.model, batch, prediction_loss_only=True)
        counts.append(int((batch["labels"][:, 1:] != IGNORED).sum()))
        losses.append(float(loss) * counts[-1])
    return math.fsum(losses) / sum(counts)
