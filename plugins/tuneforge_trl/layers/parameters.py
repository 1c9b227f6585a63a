"""How many parameters are trained, and which are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from tuneforge import Step, StepError

from .freezing import UnknownWeightsError, chosen, nothing_left


def count(model: nn.Module) -> tuple[int, int]:
    """Trainable and total parameters."""
    trainable = total = 0
    for name, weight in model.named_parameters():
        # The adapter that a training is held to is no part of what comes of it.
        if ".ref." not in name:
            size = _size(weight)
            total += size
            trainable += size if weight.requires_grad else 0
    return trainable, total


def tell(model: nn.Module, step: Step) -> None:
    """A line on what is trained, before the training begins."""
    trainable, total = count(model)
    step.log(f"trainable: {trainable:,} of {total:,} parameters ({_share(trainable / total)})")


def freeze(model: nn.Module, what: Sequence[str], step: Step) -> None:
    """Takes the weights that `what` stands for from the training: they end as they begin, bit for bit.

    An output head and an embedding that are tied are one weight, which stays if either is named.
    """
    if not what:
        return
    weights = dict(model.named_parameters(remove_duplicate=False))
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    frozen: set[str] = set()
    for entry in what:
        try:
            frozen |= chosen(entry, shapes)
        except UnknownWeightsError as unknown:
            raise StepError(unknown.problem, unknown.fix) from None
    for name in frozen:
        weights[name].requires_grad_(False)
    also = sorted(name for name, weight in weights.items() if not weight.requires_grad and name not in frozen)
    if not any(weight.requires_grad for weight in weights.values()):
        raise StepError(nothing_left().problem, nothing_left().fix)
    tied = f"; {', '.join(also)} with them, tied to one of them" if also else ""
    step.log(f"frozen: {len(frozen)} of {len(weights)} tensors{tied}")


def _size(weight: Any) -> int:
    # Four bits a parameter are packed into wider numbers, and DeepSpeed's shards are empty where they are not used.
    if type(weight).__name__ == "Params4bit":
        return int(weight.numel() * 2 * weight.element_size())
    return int(weight.numel() or getattr(weight, "ds_numel", 0))


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{share:.3%}"
