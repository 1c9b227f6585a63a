"""The adapter as it was before a training, beside the one that is trained."""

from __future__ import annotations

from typing import Any


def make_alike(model: Any) -> None:
    """Makes the reference adapter, where there is one, what the adapter is: TRL copies some of its weights only."""
    weights = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, weight in weights.items():
        parts = ["ref" if part == "default" else part for part in name.split(".")]
        reference = weights.get(".".join(parts))
        if "ref" in parts and reference is not None and reference is not weight:
            reference.data.copy_(weight.data)
