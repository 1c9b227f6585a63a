"""The adapter as it was before a training, beside the one that is trained."""

from __future__ import annotations

from typing import Any

REF = "ref"
"""The name of the adapter that is the reference, on the model that is trained."""


def make_alike(model: Any) -> None:
    """Makes the reference adapter, where there is one, what the adapter is: TRL copies some of its weights only."""
    weights = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, weight in weights.items():
        parts = [REF if part == "default" else part for part in name.split(".")]
        reference = weights.get(".".join(parts))
        if REF in parts and reference is not None and reference is not weight:
            reference.data.copy_(weight.data)
