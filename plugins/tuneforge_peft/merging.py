"""Merging an adapter into its base, and telling how well that went."""

from __future__ import annotations

import torch

from tuneforge import Adapter, RewardAdapter, Step
from tuneforge.kit import merging


def merge(adapter: Adapter | RewardAdapter, step: Step) -> None:
    """Writes base + adapter as a model into `step.out`; StepError if its logits, or scores, are not the adapter's."""
    torch.set_num_threads(step.threads)
    figures = merging.merge(adapter, step.out)
    step.metrics(**figures)
    what = "scores" if "largest_score" in figures else "logits"
    largest = figures.get("largest_score", figures.get("largest_logit"))
    step.log(
        f"{what} differ from the adapter's by {figures['merge_error']:.2g}, stored as {figures['stored_as']} by "
        f"{figures['rounding_error']:.2g} (of {largest:.3g})"
    )
