"""Preference pairs for the trainers that compare two answers: batches of them, and what a batch counts for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence

from ..spread.ranks import total
from .tokens import Columns, lengths

SIDES = ("chosen", "rejected")


class Pairwise:
    """Makes a TRL trainer take pairs that are tokens already, each of a batch counting alike however it is split."""

    loss_is_scaled_for_ga: Any = True
    args: Any

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def blank(self, row: Any) -> Any:
        """A pair that a trainer is to make without a loss."""
        return row | {"blank": True}

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, torch.Tensor]], device: torch.device) -> int:
        return int(total(sum(real_count(batch) for batch in batch_samples)))

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss = super().compute_loss(model, inputs, return_outputs)  # type: ignore[misc]
        # With its outputs, it is asked for by an evaluation, a batch at a time.
        if num_items_in_batch is None or return_outputs:
            return loss
        # What the ranks have is averaged, and each of them has but its share of the sum.
        share = self.args.world_size / num_items_in_batch
        return loss * (len(inputs["blank"]) * share)


class Collator:
    """Pairs as one batch: chosen rows first, then the rejected ones, padded on the right."""

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def __call__(self, pairs: list[Columns]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(pair[side]) for side in SIDES for pair in pairs]
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self._padding),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "blank": torch.tensor(["blank" in pair for pair in pairs]),
        }
        if "chosen_mask" in pairs[0]:
            answers = [torch.tensor(pair[f"{side}_mask"]) for side in SIDES for pair in pairs]
            batch["completion_mask"] = pad_sequence(answers, batch_first=True)
        if "reference" in pairs[0]:
            batch["reference"] = torch.tensor([pair["reference"][place] for place in range(2) for pair in pairs])
        if "margin" in pairs[0]:
            batch["margin"] = torch.tensor([pair["margin"] for pair in pairs]).squeeze(-1)
        return batch


def sizes(pairs: Dataset) -> list[int]:
    """How many tokens each pair has: both of its answers are in memory at once."""
    return [sum(both) for both in zip(*(lengths(pairs, side) for side in SIDES), strict=True)]


def real_count(batch: Mapping[str, torch.Tensor]) -> int:
    """How many rows, or pairs, of a batch count."""
    return int((~batch["blank"]).sum())
