"""Means of models."""

from typing import Any

from tuneforge import Field

from .base import Based, Unbased
from .values import ShareValues, Values


class Linear(Unbased):
    """The weighted mean of models, weight by weight (model soups, arXiv:2203.05482)."""

    name = "linear"

    weights: Values = Field(
        1.0, description="How much each model counts: a number for all, or a list.", also=("weight",)
    )
    normalize: bool = Field(True, description="Divide by the sum of the weights.")

    def parameters(self) -> dict[str, Any]:
        return {"normalize": self.normalize}

    def each(self) -> dict[str, Values | ShareValues]:
        return {"weights": self.weights}

    def divides(self) -> bool:
        return self.normalize


class Karcher(Unbased):
    """The mean of models on a sphere: the point nearest to all of them along it (arXiv:2603.04972).

    Slerp for any number of models; the length of a tensor is the mean of theirs.
    """

    name = "karcher"

    iterations: int = Field(10, ge=1, description="The most steps towards the mean, a tensor.", also=("max_iter",))
    tolerance: float = Field(1e-5, gt=0, description="The length of a step that is the last.", also=("tol",))

    def parameters(self) -> dict[str, Any]:
        return {"max_iter": self.iterations, "tol": self.tolerance}


class ModelStock(Based):
    """The mean of models, drawn towards their base as far as they disagree on where to go (arXiv:2403.19522)."""

    name = "model_stock"

    filter_wise: bool = Field(False, description="Measure how far they agree row by row, not tensor by tensor.")

    def parameters(self) -> dict[str, Any]:
        return {"filter_wise": self.filter_wise}
