"""What a model reads while its layers are quantized: rows of the training part, or else what it writes itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tuneforge import ChatData, Step, StepError, TextData
from tuneforge.kit.chats import ChatRefusedError, chat_ids
from tuneforge.kit.rows import Split, count_rows, read_rows

from .options import LEAST_ROWS, OWN_LENGTH, OWN_ROWS, Calibrated

Rows = list[list[int]]

_SHORT = 12
"""A row of fewer tokens tells little of what follows what; the libraries pass over it."""

_PROBES, _PROBE_LENGTH = 8, 128
"""How many rows the result is compared on, and how many tokens of each."""


def calibration_rows(
    options: Calibrated, data: ChatData | TextData, tokenizer: PreTrainedTokenizerBase, step: Step
) -> Rows:
    """Token ids of `options.rows` training rows chosen by the step's seed, in their order, cut after `max_length`.

    Conversations are rendered by the model's own template; a row that it refuses is left out, and counted. Raises
    StepError if fewer than a handful are left.
    """
    count = count_rows(data, "train")
    chosen = frozenset(random.Random(step.seed).sample(range(count), min(count, options.rows)))
    rows = [row for place, row in enumerate(read_rows(data, "train")) if place in chosen]
    found, refused = [], 0
    for row in rows:
        try:
            found.append(_ids(tokenizer, row)[: options.max_length])
        except ChatRefusedError:
            refused += 1
    kept = [ids for ids in found if len(ids) >= _SHORT]
    if refused or len(kept) < len(found):
        step.log(f"left out {refused} calibration rows that the template refuses, {len(found) - len(kept)} too short")
    if len(kept) < LEAST_ROWS:
        raise StepError(
            f"only {len(kept)} rows are left to calibrate on",
            "Take data with a hundred rows that the model's template renders.",
        )
    return kept


def probe_rows(data: ChatData | TextData, tokenizer: PreTrainedTokenizerBase, calibration: Rows) -> Rows:
    """Token ids of a few held-out rows to compare the result on; of calibration rows where there are none."""
    split: Split = "held_out"
    found = []
    for row in islice(read_rows(data, split), 2 * _PROBES):
        try:
            found.append(_ids(tokenizer, row)[:_PROBE_LENGTH])
        except ChatRefusedError:
            continue
    kept = [ids for ids in found if len(ids) >= _SHORT]
    return kept[:_PROBES] or [ids[:_PROBE_LENGTH] for ids in calibration[:_PROBES]]


@torch.inference_mode()
def own_rows(
    options: Calibrated, model: Any, tokenizer: PreTrainedTokenizerBase, seed: int, done: Callable[[int, int], None]
) -> Rows:
    """Token ids of what the model writes by itself, each row from another first token, drawn by the seed.

    Liu et al. 2023, LLM-QAT: Data-Free Quantization Aware Training for Large Language Models,
    https://arxiv.org/abs/2305.17888
    """
    rows, length = min(options.rows, OWN_ROWS), min(options.max_length, OWN_LENGTH)
    special = set(tokenizer.all_special_ids)
    usual = [index for index in range(len(tokenizer)) if index not in special]
    ids = torch.tensor(random.Random(seed).sample(usual, min(rows, len(usual)))).unsqueeze(-1)
    chance = torch.Generator().manual_seed(seed)
    cache = None
    for place in range(1, length):
        output = model(ids[:, -1:].to(model.device), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        likely = output.logits[:, -1].float().softmax(-1).cpu()
        ids = torch.cat([ids, torch.multinomial(likely, 1, generator=chance)], dim=1)
        done(place, length - 1)
    written: Rows = ids.tolist()
    return written


def _ids(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> list[int]:
    if "messages" in row:
        return chat_ids(tokenizer, row["messages"], row["tools"])
    ids: list[int] = tokenizer((row["prompt"] or "") + row["completion"], verbose=False)["input_ids"]
    return ids
