"""Contrastive preference optimization, as a method of the align stage."""

from typing import TYPE_CHECKING, ClassVar

from tuneforge import Field

from .options import OnPairs

if TYPE_CHECKING:
    from .losses import Objective


class Cpo(OnPairs):
    """Contrastive preference optimization: dpo without its reference, held by the likelihood of the chosen answers.

    The loss is -log sigmoid(beta (log p(chosen) - log p(rejected))) and `alpha` times the negative log-likelihood of
    the chosen answer, a token in the mean. Xu et al. 2024, https://arxiv.org/abs/2401.08417
    """

    name = "cpo"
    usual: ClassVar = {"learning_rate of full": (5e-7, 1e-5), "learning_rate of adapter": (1e-6, 1e-4)}

    beta: float = Field(
        0.1,
        gt=0,
        also=("pref_beta", "rl_beta"),
        description="How much of a difference in log-probability is a clear preference.",
    )
    alpha: float = Field(
        1.0,
        ge=0,
        also=("cpo_alpha", "pref_ftx", "bc_coef", "rpo_alpha"),
        description="Weight of the likelihood of the chosen answers.",
    )

    def objective(self) -> "Objective":
        from . import losses

        return losses.Cpo(self.beta, self.alpha)
