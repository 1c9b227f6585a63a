"""Direct preference optimization by TRL's DPOTrainer, on pairs that are tokenized and masked here."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]

from tuneforge import Adapter, Model, PreferenceData, Step
from tuneforge.kit.chats import IGNORED, after_prompt, prompt_ids, tokenize_chat
from tuneforge.kit.models import load_model
from tuneforge.kit.rows import read_rows

from .batches import Grouped
from .dpo import Dpo
from .loading import load_for_training, longest_row, lora_config, padding_tokenizer
from .loop import Quiet, fit, save
from .rows import HELD_OUT_TOKENS, Columns, Row, check_fit, lengths, read_tokens, write_tokens
from .settings import arguments, compute_dtype, settle


class _Trainer(Quiet, Grouped, DPOTrainer):
    """TRL's trainer on rows that are tokens already, every pair of a batch counting alike however it is split."""

    loss_is_scaled_for_ga = True

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, torch.Tensor]], device: torch.device) -> int:
        return sum(_pairs(batch) for batch in batch_samples)

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss = super().compute_loss(model, inputs, return_outputs)  # type: ignore[no-untyped-call]
        return loss if num_items_in_batch is None else loss * (_pairs(inputs) / num_items_in_batch)


def prepare(options: Dpo, model: Model | Adapter, data: PreferenceData, step: Step) -> None:
    """Writes both answers of each pair as tokens, with a mask of what the assistant wrote, into `step.scratch`."""
    tokenizer = padding_tokenizer(model)
    longest = longest_row(model, options)

    def convert(row: Row) -> Columns:
        prompt = prompt_ids(tokenizer, row["prompt"], row.get("tools"))
        columns: Columns = {}
        for side in ("chosen", "rejected"):
            conversation = tokenize_chat(tokenizer, [*row["prompt"], *row[side]], row.get("tools"))
            tokens = after_prompt(conversation, prompt)
            check_fit(tokens.ids, tokens.labels, longest)
            columns |= {side: tokens.ids, f"{side}_mask": [int(label != IGNORED) for label in tokens.labels]}
        return columns

    write_tokens(read_rows(data, "train"), convert, "train", step)
    write_tokens(read_rows(data, "held_out"), convert, "held_out", step, HELD_OUT_TOKENS)


def align(options: Dpo, model: Model | Adapter, step: Step) -> None:
    """Fits `model` to the preferences that were prepared and writes what comes of it into `step.out`."""
    settle(step)
    tokenizer = padding_tokenizer(model)
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    pairs = train.dataset
    # Both answers of a pair are in memory at once.
    sizes = [sum(sides) for sides in zip(lengths(pairs, "chosen"), lengths(pairs, "rejected"), strict=True)]
    step.metrics(pairs=train.kept, tokens=sum(sizes), left_out=train.left_out)
    whole = options.adapter is None and isinstance(model, Model)
    rate = options.rate(full=1e-6, adapter=1e-5, is_adapter=not whole)
    # An adapter needs none: the base with the adapter switched off, or a copy of the adapter, is the reference.
    reference: Any = load_model(model, dtype=compute_dtype()) if whole else None
    trainer = _Trainer(
        model=load_for_training(model, options),
        ref_model=reference,
        args=DPOConfig(
            **arguments(options, step, lengths=sizes, learning_rate=rate),
            beta=options.beta,
            loss_type=[options.loss],
            max_length=None,
            remove_unused_columns=False,
        ),
        data_collator=_Pairs(tokenizer.pad_token_id),
        train_dataset=pairs,
        processing_class=tokenizer,
        peft_config=lora_config(options.adapter),
    )
    trainer.row_lengths = sizes
    fit(trainer, options, step)
    if held_out.kept:
        found = trainer.evaluate(held_out.dataset)
        step.metrics(
            eval_loss=found["eval_loss"],
            eval_reward_accuracy=found["eval_rewards/accuracies"],
            eval_reward_margin=found["eval_rewards/margins"],
            eval_pairs=held_out.kept,
        )
    save(trainer, model, step)


class _Pairs:
    """Pairs as one batch: chosen rows first, then the rejected ones, padded on the right."""

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def __call__(self, pairs: list[Columns]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(pair[side]) for side in ("chosen", "rejected") for pair in pairs]
        answers = [torch.tensor(pair[f"{side}_mask"]) for side in ("chosen", "rejected") for pair in pairs]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self._padding),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "completion_mask": pad_sequence(answers, batch_first=True),
        }


def _pairs(batch: dict[str, torch.Tensor]) -> int:
    return len(batch["input_ids"]) // 2
