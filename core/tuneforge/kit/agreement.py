"""How near the answers of one form of a model come to those of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tuneforge import StepError

from .chats import ChatRefusedError, chat_ids

LONGEST = 128
"""Tokens of a text that are compared."""

_TEXTS = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Write the numbers from 1 to 10.", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"),
    ('Return {"name": "Ada", "items": [3, 5]} as a table.', "| name | items |\n|---|---|\n| Ada | 3, 5 |"),
    ("Traduis en allemand : bonjour, comment vas-tu ?", "Hallo, wie geht es dir?"),
    ("Explain what this does: x = [n ** 2 for n in range(10) if n % 2]", "It lists the squares of the odd numbers."),
    ("My order 4711 has not come yet, it was due on Monday.", "I am sorry. May I have the name on the order?"),
)


def probes(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of a few texts: as conversations where the model has a template that takes them, else as they are."""
    found = []
    for question, answer in _TEXTS:
        ids: list[int] = tokenizer(f"{question}\n{answer}", verbose=False)["input_ids"]
        if tokenizer.chat_template is not None:
            chat = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            with suppress(ChatRefusedError):
                ids = chat_ids(tokenizer, chat)
        found.append(ids[:LONGEST])
    return found


@torch.inference_mode()
def logits(model: Any, texts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """The logits of every position of every text, float32 (tokens, vocabulary), on the CPU."""
    return [model(torch.tensor([list(ids)], device=model.device)).logits[0].float().cpu() for ids in texts]


def largest_difference(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    """The largest difference between two logits; infinite if one of them is not finite."""
    worst = torch.stack([(ours - theirs).abs().max() for ours, theirs in zip(found, wanted, strict=True)])
    return float(worst.max()) if bool(worst.isfinite().all()) else math.inf


def agreement(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> dict[str, float]:
    """Figures of logits against those of the full model, over all positions.

    `logits_error` is the root mean square of the difference, as a share of the spread of the full model's logits;
    `largest_logits_error` the largest difference; `kl` the mean Kullback-Leibler divergence from the full model, in
    nats; `greedy_agreement` the share of positions where both find the same token the likeliest. Raises StepError for
    logits that are not finite, or have as little to do with the full model's as chance.
    """
    ours, theirs = torch.cat(list(found)), torch.cat(list(wanted))
    spread = theirs.var(-1).mean().sqrt()
    error = float(((ours - theirs).square().mean().sqrt() / spread).nan_to_num(math.inf))
    if not error < 1:
        raise StepError(
            f"the quantized model answers nothing like the full one: its logits are off by {error:.2g} of their spread",
            "Take a type of more bits, or leave the layers that suffer most out of it (`skip`).",
        )
    true = theirs.log_softmax(-1)
    divergence = (true.exp() * (true - ours.log_softmax(-1))).sum(-1).mean()
    return {
        "logits_error": error,
        "largest_logits_error": largest_difference(found, wanted),
        "kl": float(divergence),
        "greedy_agreement": float((ours.argmax(-1) == theirs.argmax(-1)).float().mean()),
    }
