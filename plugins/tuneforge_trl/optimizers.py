"""Optimizers that the Trainer does not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


def muon(model: Any, *, learning_rate: float, weight_decay: float) -> Optimizer:
    """Muon for the matrices between the embedding and the output head, or score, AdamW for all else that is trained.

    Muon's steps are scaled to the size of AdamW's, so that both take the same learning rate. Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon; Liu et al. 2025, https://arxiv.org/abs/2502.16982
    """
    ends = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings()
    if head is not None:
        ends.add(id(head.weight))
    ends |= {id(weight) for name, weight in model.named_parameters() if "score" in name.split(".")}
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    inner = [weight for weight in trained if weight.ndim == 2 and id(weight) not in ends]
    outer = [weight for weight in trained if weight.ndim > 2 or (weight.ndim == 2 and id(weight) in ends)]
    vectors = [weight for weight in trained if weight.ndim < 2]
    parts: list[Optimizer] = []
    if inner:
        parts.append(Muon(inner, learning_rate, weight_decay, adjust_lr_fn="match_rms_adamw"))
    # As the Trainer has it: gains and biases, which are vectors, do not decay.
    groups = [{"params": outer, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if outer or vectors:
        parts.append(AdamW([group for group in groups if group["params"]], learning_rate))
    return Joint(parts)


class Joint(Optimizer):
    """Several optimizers, each of its own parameters, that a Trainer sees, schedules and saves as one."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self._parts = parts
        super().__init__(self._groups(), {})

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        # Loading gives each part new groups, and a schedule changes those that it finds here.
        self.param_groups = self._groups()
