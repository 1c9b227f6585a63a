"""Sums of task vectors: of what models have learnt since they were a base."""

from typing import Any

from tuneforge import Field

from .base import Based
from .values import Share, ShareValues, Values


class TaskVectors(Based):
    """A base, and a weighted sum of what models have learnt since then."""

    least = 1

    weights: Values = Field(
        1.0, description="How much each model counts: a number for all, or a list.", also=("weight",)
    )
    normalize: bool = Field(False, description="Divide by the sum of the weights.")
    scale: float = Field(
        1.0, description="A factor on the whole sum, before it is added to the base.", also=("lambda",)
    )

    def parameters(self) -> dict[str, Any]:
        return {"normalize": self.normalize, "lambda": self.scale}

    def each(self) -> dict[str, Values | ShareValues]:
        return {"weights": self.weights}

    def divides(self) -> bool:
        return self.normalize


class TaskArithmetic(TaskVectors):
    """A base, and the weighted sum of what models have learnt since then (arXiv:2212.04089).

    A model with a negative weight is unlearnt.
    """

    name = "task_arithmetic"


class Sce(Based):
    """Of what models have learnt since a base, the weights they differ most in, those of the larger sign, each model
    by the square of its change (arXiv:2408.07990)."""

    name = "sce"

    density: Share = Field(
        0.1, description="The share of the weights, those that models differ most in.", also=("select_topk",)
    )

    def parameters(self) -> dict[str, Any]:
        return {"select_topk": self.density}
