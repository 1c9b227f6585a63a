"""How near the answers of one form of a model come to those of another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tuneforge import Step, StepError

from .chats import ChatRefusedError, chat_ids
from .packed import Tensors

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


def logits(model: Any, texts: Iterable[Sequence[int]]) -> Iterator[torch.Tensor]:
    """The logits of every position of a text, float32 (tokens, vocabulary), on the CPU; one text after the other.

    Those of many texts and a large vocabulary would be the peak of memory.
    """
    for text in texts:
        ids = torch.tensor([list(text)], device=model.device)
        with torch.inference_mode():
            found = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float().cpu()
        yield found


def largest_difference(found: Iterable[torch.Tensor], wanted: Iterable[torch.Tensor]) -> float:
    """The largest difference between two logits; infinite if one of them is not finite."""
    worst = torch.stack([(ours - theirs).abs().max() for ours, theirs in zip(found, wanted, strict=True)])
    return float(worst.max()) if bool(worst.isfinite().all()) else math.inf


def agreement(
    found: Iterable[torch.Tensor], wanted: Iterable[torch.Tensor], fix: str = "Take more bits."
) -> dict[str, float]:
    """Figures of logits against those of the full model, over all positions (`compared_positions`).

    `logits_error` is the root mean square of the difference, as a share of the spread of the full model's logits;
    `kl` the mean Kullback-Leibler divergence from the full model, in nats; `greedy_agreement` the share of positions
    where both find the same token the likeliest. Raises StepError for logits that are not finite, or have as little
    to do with the full model's as chance, with what is then to be done in `fix`.
    """
    positions, agreeing, divergence, squares, spread = 0, 0, 0.0, 0.0, 0.0
    for ours, theirs in zip(found, wanted, strict=True):
        true = theirs.log_softmax(-1)
        positions += len(theirs)
        agreeing += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        divergence += float((true.exp() * (true - ours.log_softmax(-1))).sum())
        squares += float((ours - theirs).square().mean(-1).sum())
        spread += float(theirs.var(-1).sum())
    if not math.isfinite(squares):
        raise StepError(
            "the quantized model's logits are not finite",
            "Its weights may not fit float16: quantize it in another way, which keeps bfloat16.",
        )
    error = math.sqrt(squares / spread) if spread else math.inf if squares else 0.0
    if not error < 1:
        raise StepError(
            f"the quantized model answers nothing like the full one: its logits are off by {error:.2g} of their spread",
            fix,
        )
    return {
        "logits_error": error,
        "kl": divergence / positions,
        "greedy_agreement": agreeing / positions,
        "compared_positions": positions,
    }


def tell(step: Step, full: Tensors, quantized: Tensors, layers: int, figures: Mapping[str, float]) -> None:
    """What every quantization tells of its result: its size, how many layers were rounded, and its `agreement`."""
    size, before = (sum(tensor.bytes for tensor in tensors.values()) for tensors in (quantized, full))
    step.metrics(bytes=size, share_of_bytes=size / before, layers=layers, **figures)
    step.log(
        f"{layers} layers rounded, {size / before:.0%} of the bytes; chooses the full model's next token in "
        f"{figures['greedy_agreement']:.1%} of {figures['compared_positions']} places, KL {figures['kl']:.3g} nats"
    )
