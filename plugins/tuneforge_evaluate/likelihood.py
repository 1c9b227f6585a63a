"""How likely a model finds what it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from tuneforge.kit.chats import IGNORED, Tokens
from tuneforge.kit.generation import by_length

TOKENS = 8192
"""Tokens in memory at once: each has a logit for every word of the vocabulary."""


@dataclass(frozen=True)
class Likelihood:
    """The log-likelihood of a row's labelled tokens, in nats, and how many they are."""

    total: float
    tokens: int

    @property
    def mean(self) -> float:
        return self.total / self.tokens


@torch.inference_mode()
def likelihoods(
    model: PreTrainedModel | PeftModel, rows: Sequence[Tokens], batch_size: int, done: Callable[[int], None]
) -> list[Likelihood]:
    """The likelihood of each row's labels; `done` is told how many rows each batch had.

    Rows are padded on the right, where causal attention never looks; the softmax is taken in float32.
    """
    found: list[Likelihood | None] = [None] * len(rows)
    for batch in by_length([len(row.ids) for row in rows], batch_size, TOKENS):
        longest = max(len(rows[index].ids) for index in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full_like(ids, IGNORED)
        mask = torch.zeros_like(ids)
        for place, index in enumerate(batch):
            length = len(rows[index].ids)
            ids[place, :length] = torch.tensor(rows[index].ids)
            labels[place, :length] = torch.tensor(rows[index].labels)
            mask[place, :length] = 1
        ids, mask, labels = (tensor.to(model.device) for tensor in (ids, mask, labels))
        # An adapter that is a prompt has logits for that too, before those of the text.
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, -longest:-1]
        wanted = labels[:, 1:]
        counted = wanted != IGNORED
        # Only the rows of logits under a label are made float32: all of them would be the peak of memory.
        each = torch.log_softmax(logits[counted].float(), -1).gather(-1, wanted[counted].unsqueeze(-1)).squeeze(-1)
        counts = counted.sum(-1).tolist()
        for index, part in zip(batch, torch.split(each, counts), strict=True):
            found[index] = Likelihood(part.double().sum().item(), len(part))
        done(len(batch))
    return [likelihood for likelihood in found if likelihood is not None]
