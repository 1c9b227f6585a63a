"""Odds ratio preference optimization, as a method of the align stage."""

from typing import TYPE_CHECKING, ClassVar

from tuneforge import Field

from .options import OnPairs

if TYPE_CHECKING:
    from .losses import Objective


class Orpo(OnPairs):
    """Odds ratio preference optimization: the chosen answers are learnt, and pushed away from the rejected ones.

    Fine-tuning and alignment at once, from a base model on; there is no reference. The loss is the negative
    log-likelihood of the chosen answer, a token in the mean, and `beta` times -log sigmoid of how much greater the log
    odds of the chosen than of the rejected answer are. Hong et al. 2024, https://arxiv.org/abs/2403.07691
    """

    name = "orpo"
    # The paper's rate for models of 7B parameters.
    full_rate: ClassVar = 8e-6
    adapter_rate: ClassVar = 8e-5
    usual: ClassVar = {"learning_rate of full": (1e-6, 2e-5), "learning_rate of adapter": (5e-6, 2e-4)}

    beta: float = Field(
        0.1,
        gt=0,
        also=("pref_beta", "orpo_alpha", "rl_beta", "lambda"),
        description="Weight of the odds ratio beside the likelihood of the chosen answers; the paper's lambda.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate; where it is not set, 8e-6, or for an adapter 0.4 times the usual one of "
        "its type (lora: 8e-5).",
    )

    def objective(self) -> "Objective":
        from . import losses

        return losses.Orpo(self.beta)
