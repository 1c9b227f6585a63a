"""Rows that a quantization is measured on: drawn by a seed, as the model would read them."""

from __future__ import annotations

import random
from typing import Any

from transformers import PreTrainedTokenizerBase

from tuneforge import ChatData, StepError, TextData

from .chats import ChatRefusedError, chat_ids
from .rows import count_rows, read_rows


def calibration(
    data: ChatData | TextData, tokenizer: PreTrainedTokenizerBase, *, most: int, longest: int, seed: int
) -> list[list[int]]:
    """Token ids of at most `most` training rows, in their order, each cut after `longest` tokens.

    Conversations are rendered by the model's template; those that it refuses are left out. Raises StepError if none is
    left.
    """
    count = count_rows(data, "train")
    drawn = set(random.Random(seed).sample(range(count), min(most, count)))
    found = []
    for index, row in enumerate(read_rows(data, "train")):
        if index in drawn:
            try:
                ids = _ids(data, tokenizer, row)
            except ChatRefusedError:
                continue
            if ids:
                found.append(ids[:longest])
    if not found:
        raise StepError(
            f"there is nothing to measure on: none of {len(drawn)} rows suits the model's template",
            "Take data that suits the model.",
        )
    return found


def _ids(data: ChatData | TextData, tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> list[int]:
    if isinstance(data, ChatData):
        return chat_ids(tokenizer, row["messages"], row.get("tools"))
    ids: list[int] = tokenizer(f"{row['prompt'] or ''}{row['completion']}", verbose=False)["input_ids"]
    return ids
