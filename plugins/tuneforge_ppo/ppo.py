"""Proximal policy optimization, as a method of the align stage."""

from collections.abc import Iterator
from typing import Literal

from tuneforge import (
    Adapter,
    Align,
    Artifact,
    Facts,
    Field,
    Finding,
    Kinds,
    Known,
    Model,
    PromptData,
    RewardAdapter,
    RewardModel,
    Step,
)
from tuneforge.kit.monitor.options import MonitorOptions

NEEDS = (
    "accelerate>=1.10",
    "datasets>=4.7",
    "peft>=0.20",
    "pyarrow>=18",
    "torch>=2.9",
    "transformers>=5.21,<6",
    "trl==1.12.*",
)
"""The last TRL with a PPOTrainer, which is in none after it."""


class Ppo(Align):
    """Proximal policy optimization: the model answers prompts, and answers that a reward model scores higher become
    likelier, while the model is held to what it was: the full pipeline of RLHF, after SFT and a reward model.

    Each step samples an answer to each of `batch_size` prompts, scores the conversations with them, and fits the model,
    and a value model that foresees the score, to them in several passes. The value model begins as the reward model.
    The reward of an answer is its score, less `kl_coef` times its KL divergence from the reference, which is the model
    as it comes in: a second copy of a full model, or the adapter as it was. Ouyang et al. 2022,
    https://arxiv.org/abs/2203.02155; Schulman et al. 2017, https://arxiv.org/abs/1707.06347; advantages: Schulman et
    al. 2015, https://arxiv.org/abs/1506.02438

    An answer ends at the token that SFT trains as the end of a turn. One that is cut off is scored as if it had ended,
    less `missing_eos_penalty`. TRL takes the mean over the tokens of each micro batch, so `micro_batch_size` counts.

    Told of each step: reward, the mean score; kl and entropy, in nats a token; answer_tokens; finished, the share of
    answers that ended; value_loss. Told of held-out prompts, answered greedily: eval_reward, eval_answer_tokens.
    """

    name = "ppo"
    needs = NEEDS
    engine = "tuneforge_ppo.engine"

    epochs: float = Field(
        1.0, gt=0, also=("num_train_epochs", "num_epochs", "n_epochs"), description="Passes over the training prompts."
    )
    steps: int | None = Field(
        None,
        ge=1,
        also=("max_steps", "total_episodes"),
        description="Steps of `batch_size` answers, in place of epochs.",
    )
    batch_size: int = Field(
        64,
        ge=2,
        also=("rollout_batch_size", "gradient_accumulation_steps", "global_batch_size", "train_batch_size"),
        description="Answers that one step samples and learns from.",
    )
    passes: int = Field(
        4,
        ge=1,
        also=("num_ppo_epochs", "ppo_epochs", "update_epochs"),
        description="How often each answer is learnt from.",
    )
    mini_batches: int = Field(
        1,
        ge=1,
        also=("num_mini_batches",),
        description="Updates of the weights in one pass over the answers of a step.",
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        also=("per_device_train_batch_size", "per_device_batch_size", "mini_batch_size"),
        description="Answers in memory at once while it learns, a divisor of a mini batch; where it is not set, 16 at "
        "most.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate, of the model and of its value model; where it is not set, 3e-6, or for an "
        "adapter 1e-5.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "linear",
        also=("lr_scheduler_type", "lr_scheduler"),
        description="How the learning rate falls after the warm-up, to zero or not at all.",
    )
    warmup: float = Field(
        0.0,
        ge=0,
        lt=1,
        also=("warmup_ratio", "warmup_steps"),
        description="Share of the steps over which the learning rate rises to its highest.",
    )
    max_grad_norm: float = Field(
        1.0, gt=0, also=("gradient_clipping", "max_grad_clip"), description="Gradients longer than this are clipped."
    )
    kl_coef: float = Field(
        0.05,
        ge=0,
        also=("init_kl_coef", "kl_penalty_coef", "beta", "kl_loss_coef"),
        description="What a nat of divergence from the reference costs of the score.",
    )
    kl_estimator: Literal["k1", "k3"] = Field(
        "k1",
        description="How the divergence of a token is estimated: its log-ratio (k1), or a value of lower variance that "
        "is never negative (k3).",
    )
    clip_range: float = Field(
        0.2,
        gt=0,
        also=("cliprange", "clip_eps", "eps_clip", "clip_ratio"),
        description="How far the probability of a token may move from what it was when it was sampled, as a ratio, and "
        "still be rewarded.",
    )
    value_clip_range: float = Field(
        0.2, gt=0, also=("cliprange_value", "value_clip"), description="The same of the value model, as a difference."
    )
    value_coef: float = Field(
        0.1,
        ge=0,
        also=("vf_coef", "value_loss_coef"),
        description="Weight of the value model's loss beside the policy's.",
    )
    gamma: float = Field(1.0, ge=0, le=1, also=("discount",), description="Discount of what is rewarded a token later.")
    lam: float = Field(
        0.95,
        ge=0,
        le=1,
        also=("gae_lambda", "lambda"),
        description="How far advantages are told from rewards (1) rather than from the value model's foresight (0).",
    )
    whiten_rewards: bool = Field(False, description="Scales the rewards of a step to a variance of one.")
    missing_eos_penalty: float | None = Field(
        None,
        ge=0,
        also=("non_eos_penalty",),
        description="What the score of an answer loses that was cut off before it ended.",
    )
    temperature: float = Field(1.0, gt=0, description="Temperature of sampling.")
    max_new_tokens: int = Field(
        128,
        ge=1,
        also=("response_length", "max_completion_length", "generation_max_length", "max_tokens"),
        description="Tokens after which an answer is cut off.",
    )
    max_length: int | None = Field(
        None,
        ge=1,
        also=("max_prompt_length", "cutoff_len", "query_length"),
        description="Longest prompt in tokens; longer ones are left out and counted. Where it is not set, what the "
        "model's context leaves beside the answer.",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        also=("bf16", "mixed_precision", "compute_dtype"),
        description="What is computed in; auto: bf16 where the GPU has it, else fp32. Weights that change are fp32.",
    )
    evaluate_every: int | None = Field(
        None,
        ge=1,
        keyed=False,
        also=("eval_steps",),
        description="Steps between measurements of the mean reward of held-out prompts; where it is not set, there is "
        "one before the first step and one after the last.",
    )
    samples: int = Field(
        3, ge=0, keyed=False, description="Held-out prompts whose answers are shown at each measurement."
    )
    log_every: int = Field(1, ge=1, keyed=False, also=("logging_steps",), description="Steps between lines of the log.")
    save_every: int = Field(
        20, ge=1, keyed=False, also=("save_steps",), description="Steps between checkpoints, from which a run resumes."
    )

    monitor: MonitorOptions = Field(
        MonitorOptions(), keyed=False, description="What is done about troubles while it trains."
    )

    @property
    def mini_batch(self) -> int:
        """Answers that one update of the weights learns from."""
        return self.batch_size // self.mini_batches

    @property
    def micro_batch(self) -> int:
        """Answers in memory at once while it learns: as set, or the largest divisor of a mini batch up to 16."""
        return self.micro_batch_size or max(size for size in range(1, 17) if self.mini_batch % size == 0)

    def prepare(
        self, model: Model | Adapter, reward_model: RewardModel | RewardAdapter, data: PromptData, step: Step
    ) -> None:
        from .prompts import prepare

        prepare(self, model, data, step)

    def run(
        self, model: Model | Adapter, reward_model: RewardModel | RewardAdapter, data: PromptData, step: Step
    ) -> None:
        from .engine import align

        align(self, model, reward_model, step)

    def writes(self, kinds: Kinds) -> type[Artifact]:
        return Adapter if any(issubclass(kind, Adapter) for kind in kinds.get("model", ())) else Model

    def foresee(self, facts: Known) -> Facts:
        return next(iter(facts.get("model", ())), Facts(Model))

    def check(self, facts: Known) -> Iterator[Finding]:
        from .checks import check

        yield from check(self, facts)
