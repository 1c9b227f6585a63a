"""Direct preference optimization on answers of the model's own, as a method of the align stage."""

from typing import Literal

from tuneforge import Adapter, Field, Model, PromptData, RewardAdapter, RewardModel, Step

from .options import NEEDS, Online


class OnlineDpo(Online):
    """Online direct preference optimization: of two answers to a prompt, that with the higher reward becomes likelier.

    Both are drawn from the model as it is, and a reward model, or rewards of the recipe, tell which is the better; two
    answers that are equally good teach nothing. The reference is the base with a new adapter switched off, a given
    adapter as it was, or a second copy of a full model. Held-out prompts are answered greedily, and measured by their
    mean reward: `keep: best` and `patience` go by it. Guo et al. 2024, https://arxiv.org/abs/2402.04792; the losses are
    those of dpo
    """

    name = "online_dpo"
    needs = NEEDS
    engine = "tuneforge_trl.online.online_dpo_engine"

    beta: float = Field(
        0.1,
        gt=0,
        also=("pref_beta", "dpo_beta", "rl_beta"),
        description="How closely the model is held to the reference; with ipo, the regularization called tau.",
    )
    loss: Literal["sigmoid", "hinge", "ipo"] = Field(
        "sigmoid",
        also=("loss_type", "pref_loss", "dpo_loss"),
        description="What is made of the preference margin.",
    )
    batch_size: int = Field(
        16,
        ge=1,
        also=(
            "gradient_accumulation_steps",
            "global_batch_size",
            "train_batch_size",
            "effective_batch_size",
            "rollout_batch_size",
        ),
        description="Pairs that one optimisation step learns from, each of two answers to a prompt.",
    )

    answers_a_row = 2

    @property
    def group(self) -> int:
        return self.answers_a_row

    @property
    def drawn(self) -> int:
        return self.group * self.batch_size

    def run(
        self,
        *,
        model: Model | Adapter,
        data: PromptData,
        reward_model: RewardModel | RewardAdapter | None = None,
        step: Step,
    ) -> None:
        from .online_dpo_engine import align

        align(self, model, reward_model, step)
