"""The quantized model against the full one: what each takes for the next token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tuneforge import StepError


@dataclass(frozen=True)
class Compared:
    """`agreement` is a share of `positions`, `kl` is in nats, `logits_error` a share of the spread of the logits."""

    positions: int
    agreement: float
    kl: float
    logits_error: float


def logits(model: Any, rows: Sequence[Sequence[int]]) -> Iterator[torch.Tensor]:
    """What the model takes for the token after each of a row's, (tokens, vocabulary), in float32 on the CPU.

    One row at a time, as the logits of a large vocabulary would be the peak of memory.
    """
    for row in rows:
        ids = torch.tensor([list(row)], device=model.device)
        with torch.inference_mode():
            found = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float().cpu()
        yield found


def compare(wanted: Iterable[torch.Tensor], got: Iterable[torch.Tensor]) -> Compared:
    """Raises StepError if what the quantized model says is not finite."""
    positions, agreeing, divergence, squares, spread = 0, 0, 0.0, 0.0, 0.0
    for full, rounded in zip(wanted, got, strict=True):
        true = full.log_softmax(-1)
        positions += len(full)
        agreeing += int((full.argmax(-1) == rounded.argmax(-1)).sum())
        divergence += float((true.exp() * (true - rounded.log_softmax(-1))).sum())
        squares += float((rounded - full).square().mean(-1).sum())
        spread += float(full.var(-1).sum())
    if not math.isfinite(divergence):
        raise StepError(
            "the quantized model's logits are not finite",
            "Its weights may not fit float16: quantize another way, such as gguf in q4_k_m.",
        )
    return Compared(
        positions, agreeing / positions, divergence / positions, math.sqrt(squares / spread) if spread else 0.0
    )
