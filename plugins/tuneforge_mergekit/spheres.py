"""Ways from one model to another along a sphere."""

from collections.abc import Iterator
from typing import Any

from tuneforge import Adapter, Field, Finding, Known, Model, Step

from .base import Rooted, Unbased
from .values import ShareValue, ShareValues, Values, settings


class Slerp(Unbased):
    """Spherical linear interpolation of two models, tensor by tensor (Shoemake 1985)."""

    name = "slerp"
    most = 2
    between = True

    t: ShareValue = Field(
        0.5,
        description="0 is the first model, 1 the second: a number, a list of them by depth, or by names of tensors.",
    )

    def parameters(self) -> dict[str, Any]:
        return {"t": settings(self.t)}


class NuSlerp(Rooted):
    """Spherical linear interpolation of two models by their weights, row by row if so wished.

    With a base, it is what they have learnt since then that is interpolated.
    """

    name = "nuslerp"
    most = 2

    weights: Values = Field(
        1.0, description="How much each model counts: a number for all, or a list.", also=("weight",)
    )
    flatten: bool = Field(True, description="Take a tensor as one vector.", also=("nuslerp_flatten",))
    row_wise: bool = Field(
        False,
        description="Where not flattened: take rows as vectors and not columns.",
        also=("nuslerp_row_wise",),
    )

    def run(self, models: list[Model | Adapter], base: Model | None = None, *, step: Step) -> None:
        from .engine import carry_out

        carry_out(self, models, base, step)

    def parameters(self) -> dict[str, Any]:
        return {"nuslerp_flatten": self.flatten, "nuslerp_row_wise": self.row_wise}

    def each(self) -> dict[str, Values | ShareValues]:
        return {"weights": self.weights}

    def divides(self) -> bool:
        return True

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        if self.flatten and self.row_wise:
            yield Finding("a flattened tensor has no rows", "Write flatten: false for row_wise.", field="row_wise")
