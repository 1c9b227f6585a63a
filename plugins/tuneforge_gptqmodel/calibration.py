"""What a model reads while its layers are quantized: rows of the training part, or else what it writes itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tuneforge import ChatData, Step, TextData
from tuneforge.kit.calibration import calibration, row_ids
from tuneforge.kit.chats import ChatRefusedError
from tuneforge.kit.rows import Split, read_rows

from .options import LEAST_ROWS, OWN_LENGTH, OWN_ROWS, Calibrated

Rows = list[list[int]]

_SHORT = 12
"""A row of fewer tokens tells little of what follows what; the libraries pass over it."""

_PROBES, _PROBE_LENGTH = 8, 128
"""How many rows the result is compared on, and how many tokens of each."""


def calibration_rows(
    options: Calibrated, data: ChatData | TextData, tokenizer: PreTrainedTokenizerBase, step: Step
) -> Rows:
    """Token ids of `options.rows` training rows; StepError if fewer than a handful suit."""
    return calibration(
        data, tokenizer, step, most=options.rows, longest=options.max_length, shortest=_SHORT, least=LEAST_ROWS
    )


def probe_rows(data: ChatData | TextData, tokenizer: PreTrainedTokenizerBase, given: Rows) -> Rows:
    """Token ids of a few held-out rows to compare the result on; of calibration rows where there are none."""
    split: Split = "held_out"
    found = []
    for row in islice(read_rows(data, split), 2 * _PROBES):
        try:
            found.append(row_ids(tokenizer, row)[:_PROBE_LENGTH])
        except ChatRefusedError:
            continue
    kept = [ids for ids in found if len(ids) >= _SHORT]
    return kept[:_PROBES] or [ids[:_PROBE_LENGTH] for ids in given[:_PROBES]]


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
