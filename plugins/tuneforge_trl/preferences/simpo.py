"""Simple preference optimization, as a method of the align stage."""

from typing import TYPE_CHECKING, ClassVar

from tuneforge import Field

from .options import OnPairs

if TYPE_CHECKING:
    from .losses import Objective


class Simpo(OnPairs):
    """Simple preference optimization: chosen answers become likelier by the token than rejected ones, by a margin.

    There is no reference, and long answers gain nothing by their length. The loss is -log sigmoid(beta (mean log p of
    the chosen answer's tokens - that of the rejected one's) - margin). Meng et al. 2024,
    https://arxiv.org/abs/2405.14734
    """

    name = "simpo"
    # Of models of 7B and 8B parameters, 3e-7 to 1e-6; more of it makes them incoherent.
    full_rate: ClassVar = 8e-7
    adapter_rate: ClassVar = 8e-6
    usual: ClassVar = {"learning_rate of full": (3e-7, 2e-6), "learning_rate of adapter": (1e-6, 5e-5)}

    beta: float = Field(
        2.0,
        gt=0,
        also=("pref_beta", "simpo_beta", "rl_beta"),
        description="How much of a difference in log-probability a token is a clear preference; 2 to 10.",
    )
    margin: float = Field(
        1.0,
        ge=0,
        also=("simpo_gamma", "gamma"),
        description="By how much the chosen answer's reward is to be the greater, the paper's gamma; about half of "
        "beta.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate; where it is not set, 8e-7, or for an adapter 0.04 times the usual one of "
        "its type (lora: 8e-6).",
    )

    def objective(self) -> "Objective":
        from . import losses

        return losses.Simpo(self.beta, self.margin)
