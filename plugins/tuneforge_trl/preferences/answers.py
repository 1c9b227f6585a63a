"""How likely answers are to a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from tuneforge.kit.chats import IGNORED


@dataclass(frozen=True)
class Answers:
    """Of each of r rows, (r,): the log-probability of its answer in nats, how many tokens that has, and the mean
    entropy of their predictions in nats, where it was asked for. `balance` is the loss by which a mixture of experts
    is kept in balance, unweighted, where it was asked for."""

    logps: Tensor
    tokens: Tensor
    entropy: Tensor | None
    balance: Any


def make_able(model: Any, *, entropy: bool = False) -> None:
    """Has a language model give log-probabilities without all logits in memory at once."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    add_fused_lm_head(inner, outputs=("log_probs", "entropy") if entropy else ("log_probs",))


def answers(model: Any, ids: Tensor, attention: Tensor, answer: Tensor, *, balance: bool = False) -> Answers:
    """What a model that `make_able` has prepared gives to the tokens that the mask `answer` marks; all are (r, t)."""
    labels = ids.masked_fill(answer == 0, IGNORED)
    more = {"output_router_logits": True} if balance else {}
    found = model(input_ids=ids, attention_mask=attention, labels=labels, fused_lm_head=True, use_cache=False, **more)
    # A prompt that is learnt stands before the tokens.
    width = ids.shape[1] - 1
    tokens = (labels[:, 1:] != IGNORED).sum(1)
    entropy = None
    if found.entropy is not None:
        entropy = found.entropy[:, -width:].detach().sum(1) / tokens.clamp(min=1)
    return Answers(found.log_probs[:, -width:].sum(1), tokens, entropy, found.aux_loss)


@torch.no_grad()
def logps(model: Any, ids: Tensor, attention: Tensor, answer: Tensor) -> Tensor:
    """Their log-probabilities alone, (r,), without a gradient."""
    return answers(model, ids, attention, answer).logps
