"""Sums of task vectors of which only a part is kept, so that models stand less in each other's way."""

from collections.abc import Iterator
from typing import Any, Literal

from tuneforge import Field, Finding, Known

from .task_vectors import TaskVectors
from .values import ShareValues, Values, numbers

BY_DENSITY = "_by_density"
"""What ends the names of the merges that tuneforge_mergekit.dare adds to mergekit's."""

_KEPT = "The share of its changes that is kept of each model: a number for all, or a list."


class Ties(TaskVectors):
    """Keeps the largest changes of each model, chooses a sign for every weight, and takes the mean of the changes of
    that sign (TIES, arXiv:2306.01708)."""

    name = "ties"

    normalize: bool = Field(True, description="Divide by the weights of the models that agree: a mean, not a sum.")
    densities: ShareValues = Field(0.2, description=_KEPT, also=("density",))
    rescale: bool = Field(False, description="Scale what is kept up to the sum of all changes.")

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"rescale": self.rescale}

    def each(self) -> dict[str, Values | ShareValues]:
        return super().each() | {"densities": self.densities}


class Breadcrumbs(TaskVectors):
    """Leaves out the smallest changes of each model, and the very largest (model breadcrumbs, arXiv:2312.06795)."""

    name = "breadcrumbs"

    densities: ShareValues = Field(0.9, description=_KEPT, also=("density",))
    gamma: ShareValues = Field(
        0.01, description="The share of the largest changes that is left out: a number for all models, or a list."
    )
    rescale: bool = Field(False, description="Scale what is kept up to the sum of all changes.")

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"rescale": self.rescale}

    def each(self) -> dict[str, Values | ShareValues]:
        return super().each() | {"densities": self.densities, "gamma": self.gamma}


class Dare(TaskVectors):
    """Keeps changes by lot and scales them up, so that their expectation stays (DARE, arXiv:2311.03099)."""

    densities: ShareValues = Field(0.5, description=_KEPT, also=("density",))
    rescale: Literal["density", "norm", "none"] = Field(
        "density",
        description="How what is kept is scaled: by 1/density, as in the paper; norm, which is mergekit's own: so that "
        "the absolute changes of a tensor have the sum they had; or not at all.",
    )

    def way(self) -> str:
        return f"{self.name}{BY_DENSITY}" if self.rescale == "density" else self.name

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"rescale": self.rescale == "norm"}

    def each(self) -> dict[str, Values | ShareValues]:
        return super().each() | {"densities": self.densities}


class DareLinear(Dare):
    """Keeps changes by lot, scales them up so that their expectation stays, and adds them (DARE, arXiv:2311.03099)."""

    name = "dare_linear"


class DareTies(Dare):
    """Keeps changes by lot, scales them up so that their expectation stays, and adds those of the larger sign (DARE,
    arXiv:2311.03099, with the signs of TIES, arXiv:2306.01708)."""

    name = "dare_ties"


class Della(TaskVectors):
    """Keeps changes by lot, the larger ones likelier, chooses a sign for every weight, and takes the mean of the
    changes of that sign (DELLA, arXiv:2406.11617)."""

    name = "della"

    normalize: bool = Field(True, description="Divide by the weights of the models that agree: a mean, not a sum.")
    densities: ShareValues = Field(0.5, description=_KEPT, also=("density",))
    epsilon: ShareValues = Field(
        0.15,
        description="How far the chance to be kept is from the density for the smallest and the largest change of a "
        "row: a number for all models, or a list.",
    )
    rescale: bool = Field(True, description="Scale what is kept up to the sum of all changes.")

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"rescale": self.rescale}

    def each(self) -> dict[str, Values | ShareValues]:
        return super().each() | {"densities": self.densities, "epsilon": self.epsilon}

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        widest = max(numbers(self.epsilon))
        kept = [density for density in numbers(self.densities) if 0 < density < 1]
        wrong = [density for density in kept if not widest < density < 1 - widest]
        if wrong:
            yield Finding(
                f"a density of {wrong[0]:g} and an epsilon of {widest:g} give chances outside 0 to 1",
                "Choose epsilon so that density - epsilon is above 0 and density + epsilon below 1.",
                field="epsilon",
            )
