"""Stacking layers of models."""

from typing import Annotated, Any

from pydantic import ConfigDict
from pydantic import Field as Limits

from tuneforge import Config, Field

from .base import Position, Unbased
from .values import Value, settings


class Slice(Config):
    """Layers of one model."""

    model_config = ConfigDict(defer_build=True)

    model: Position = Field(0, description="Which model, from 0.")
    layers: tuple[Position, Position] = Field(
        description="The first layer, and the one after the last, from 0.", also=("layer_range",)
    )
    scale: Value = Field(
        1.0, description="A factor on its weights: a number, a list of them by depth, or by names of tensors."
    )

    def parameters(self) -> dict[str, Any]:
        """What mergekit is told of the slice."""
        return {"scale": settings(self.scale)}


class Passthrough(Unbased):
    """Layers of models as they are, one upon the other: a deeper model, or a shallower one.

    Embeddings come from the model of the first slice, the last norm and the head from that of the last.
    """

    name = "passthrough"
    version = 2
    least = 1
    stacks = True

    stack: Annotated[list[Slice], Limits(min_length=1)] = Field(
        description="The layers of the result, from bottom to top.", also=("slices",)
    )
