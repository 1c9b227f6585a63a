"""Rows that a quantization is measured on: drawn by a seed, as the model would read them."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from tuneforge import ChatData, Step, StepError, TextData

from .chats import ChatRefusedError, chat_ids
from .rows import draw


def calibration(
    data: ChatData | TextData,
    tokenizer: PreTrainedTokenizerBase,
    step: Step,
    *,
    most: int,
    longest: int,
    shortest: int = 1,
    least: int = 1,
) -> list[list[int]]:
    """Token ids of `most` training rows drawn by the step's seed, in their order, each cut after `longest` tokens.

    Conversations are rendered by the model's template. Those that it refuses are left out, as are rows of fewer than
    `shortest` tokens; the step tells how many. Raises StepError if fewer than `least` are left.
    """
    found, drawn, refused, short = [], 0, 0, 0
    for _, row in draw(data, most, step.seed):
        drawn += 1
        try:
            ids = row_ids(tokenizer, row)
        except ChatRefusedError:
            refused += 1
            continue
        if len(ids) < shortest:
            short += 1
        else:
            found.append(ids[:longest])
    if refused or short:
        step.log(f"left out of {drawn} rows: {refused} that the template refuses, {short} too short")
    if len(found) < least:
        raise StepError(
            f"only {len(found)} of {drawn} rows are left to calibrate on",
            "Take data with a hundred rows that the model's template renders.",
        )
    return found


def row_ids(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> list[int]:
    """The tokens of a row, rendered if it is a conversation. Raises ChatRefusedError if the template refuses it."""
    if "messages" in row:
        return chat_ids(tokenizer, row["messages"], row.get("tools"))
    ids: list[int] = tokenizer(f"{row['prompt'] or ''}{row['completion']}", verbose=False)["input_ids"]
    return ids
