"""Group relative policy optimization, as a method of the align stage."""

from collections.abc import Iterator
from typing import Literal

from tuneforge import Adapter, Field, Finding, Known, Model, PromptData, RewardAdapter, RewardModel, Step

from .options import NEEDS, Groups


class Grpo(Groups):
    """Group relative policy optimization: of several answers to a prompt, those with the higher reward become likelier.

    An answer's advantage is its reward less the mean of its group, over the group's standard deviation. With `beta` the
    model is held to a reference: the base with a new adapter switched off, a given adapter as it was, or a second copy
    of a full model; without, which is usual with rewards that can be verified, there is none. Held-out prompts are
    answered greedily, and measured by their mean reward: `keep: best` and `patience` go by it.
    Shao et al. 2024, https://arxiv.org/abs/2402.03300; dapo and epsilon_high: Yu et al. 2025,
    https://arxiv.org/abs/2503.14476; dr_grpo and scale_rewards: none: Liu et al. 2025,
    https://arxiv.org/abs/2503.20783; importance_sampling: sequence: Zheng et al. 2025 (GSPO),
    https://arxiv.org/abs/2507.18071; cispo: MiniMax 2025, https://arxiv.org/abs/2506.13585; sapo: Gao et al. 2025,
    https://arxiv.org/abs/2511.20347
    """

    name = "grpo"
    needs = NEEDS
    engine = "tuneforge_trl.online.grpo_engine"

    loss: Literal["grpo", "dapo", "dr_grpo", "cispo", "sapo"] = Field(
        "dapo",
        also=("loss_type", "policy_loss", "loss_agg_mode"),
        description="How the tokens of answers are averaged and clipped: grpo, each answer alike, so that tokens of "
        "long ones count less; dapo, each token of a batch alike; dr_grpo, as dapo, but over a constant; cispo and "
        "sapo, with softer clipping.",
    )
    beta: float = Field(
        0.0,
        ge=0,
        also=("kl_coef", "kl_loss_coef", "kl_beta", "init_kl_coef"),
        description="How closely the model is held to the reference, by the KL divergence of each token in nats; "
        "0: not at all, and there is no reference.",
    )
    epsilon_high: float | None = Field(
        None,
        gt=0,
        also=("clip_ratio_high", "eps_clip_high"),
        description="The same upwards, where it is another one: dapo is used with 0.28. Where it is not set, epsilon, "
        "and of cispo 5.",
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group",
        also=("norm_adv_by_std_in_grpo", "normalize_advantages"),
        description="Whose standard deviation of rewards advantages are divided by.",
    )
    importance_sampling: Literal["token", "sequence"] = Field(
        "token",
        also=("importance_sampling_level",),
        description="Whether the probability of each token, or of an answer as a whole, is compared with what it was.",
    )

    def run(
        self,
        *,
        model: Model | Adapter,
        data: PromptData,
        reward_model: RewardModel | RewardAdapter | None = None,
        step: Step,
    ) -> None:
        from .grpo_engine import align

        align(self, model, reward_model, step)

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        unread = {"cispo": ("epsilon",), "sapo": ("epsilon", "epsilon_high")}.get(self.loss, ())
        for name in unread:
            if name in self.model_fields_set:
                yield Finding(f"{self.loss} does not look at {name}", "Leave it out.", "warning", name)
        if self.loss in ("dapo", "dr_grpo", "cispo") and self.importance_sampling == "sequence":
            yield Finding(
                f"{self.loss} sums over tokens, so that answers compared as a whole count by their lengths",
                "Set loss: grpo, as GSPO has it.",
                "warning",
                "loss",
            )
