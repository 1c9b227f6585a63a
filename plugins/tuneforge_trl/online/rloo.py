"""REINFORCE with a leave-one-out baseline, as a method of the align stage."""

from tuneforge import Adapter, Field, Model, PromptData, RewardAdapter, RewardModel, Step

from .options import NEEDS, Groups


class Rloo(Groups):
    """REINFORCE, leave one out: each answer's reward is compared with the mean of the others to the same prompt.

    An answer is one action, learnt from as a whole. Its reward is lessened by `beta` times how much likelier it is than
    under the reference: the base with a new adapter switched off, a given adapter as it was, or a second copy of a full
    model; with beta 0 there is none. Held-out prompts are answered greedily, and measured by their mean reward:
    `keep: best` and `patience` go by it. Ahmadian et al. 2024, https://arxiv.org/abs/2402.14740
    """

    name = "rloo"
    needs = NEEDS
    engine = "tuneforge_trl.online.rloo_engine"

    beta: float = Field(
        0.05,
        ge=0,
        also=("kl_coef", "kl_loss_coef", "kl_beta", "init_kl_coef"),
        description="What the reward is lessened by for each nat by which an answer is likelier than under the "
        "reference; 0: not at all, and there is no reference.",
    )
    normalize_advantages: bool = Field(
        False,
        also=("whiten_advantages", "scale_rewards", "normalize_reward"),
        description="Brings the advantages of a batch to a mean of 0 and a standard deviation of 1.",
    )
    clip_rewards: float | None = Field(
        None,
        gt=0,
        also=("reward_clip_range", "reward_clip"),
        description="Rewards beyond this, up or down, count as this.",
    )

    def run(
        self,
        *,
        model: Model | Adapter,
        data: PromptData,
        reward_model: RewardModel | RewardAdapter | None = None,
        step: Step,
    ) -> None:
        from .rloo_engine import align

        align(self, model, reward_model, step)
