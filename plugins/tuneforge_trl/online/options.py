"""The options of every method that learns from answers of the model's own."""

from collections.abc import Iterator
from typing import ClassVar

from tuneforge import (
    Adapter,
    Align,
    Facts,
    Field,
    Finding,
    Known,
    Launch,
    Model,
    PromptData,
    RewardAdapter,
    RewardModel,
    Step,
    Strategy,
)
from tuneforge.artifacts import context_length
from tuneforge.kit.adapters import is_prompt, peft_type

from ..adapters.prompts import BeforeText
from ..options import NEEDS as TRAINING
from ..options import Training
from ..spread.strategies import Ddp
from ..watching.options import Sampling
from .rewards import AnyReward, check_rewards

NEEDS = tuple(sorted((*TRAINING, "jsonschema>=4.20")))


class Online(Sampling, Training, Align):
    """How answers are drawn and rewarded, and what of them is learnt from."""

    # Of a model that is cut up among processes no answers are drawn here.
    strategies: ClassVar[tuple[type[Strategy], ...]] = (Ddp,)
    loss_falls: ClassVar[bool] = False

    answers_a_row: ClassVar[int] = 1
    """How many answers a row is of which `batch_size` counts."""

    # Shao et al. 2024 (1e-6 for a full model), https://arxiv.org/abs/2402.03300
    usual: ClassVar = {"learning_rate of full": (1e-7, 5e-6), "learning_rate of adapter": (1e-6, 1e-4)}

    rewards: list[AnyReward] = Field(
        [],
        also=("reward_funcs", "reward_functions", "reward_func", "verifier"),
        description="What answers are rewarded for, each by its type: exact, regex, json-schema, length, number or "
        "function.",
    )
    reward_model_weight: float = Field(
        1.0,
        also=("reward_weights", "reward_model_coef"),
        description="What the scores of `reward_model` are multiplied by before they are added to the other rewards.",
    )
    max_new_tokens: int = Field(
        256,
        ge=1,
        also=("max_completion_length", "max_tokens", "response_length", "max_response_length"),
        description="Tokens after which an answer is cut off.",
    )
    temperature: float = Field(
        1.0, gt=0, description="Of the drawing: below 1 likely tokens come more often than the model says."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="Only the likeliest tokens that together have this probability are drawn."
    )
    top_k: int = Field(0, ge=0, description="Only so many of the likeliest tokens are drawn; 0: all.")
    epochs: float = Field(
        1.0, gt=0, also=("num_train_epochs", "num_epochs", "n_epochs"), description="Passes over the training prompts."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        also=("lr",),
        description="Highest learning rate; where it is not set, 1e-6, or for an adapter a twentieth of the usual one "
        "of its type (lora: 1e-5).",
    )
    max_length: int | None = Field(
        None,
        ge=1,
        also=("cutoff_len", "sequence_len", "max_seq_length", "max_seq_len", "model_max_length", "block_size"),
        description="Longest prompt and answer together, in tokens: prompts that leave no room for `max_new_tokens` "
        "are left out and counted. Where it is not set, the model's context, at most 4096.",
    )

    @property
    def group(self) -> int:
        """How many answers are drawn to each prompt."""
        raise NotImplementedError

    @property
    def drawn(self) -> int:
        """How many answers are drawn at a time."""
        raise NotImplementedError

    def rows_of(self, prompt: int) -> list[int]:
        """The rows that are made of a prompt of so many tokens, each by its length: all answers to it, as often as they
        are learnt from."""
        return [self.answers_a_row * (prompt + self.max_new_tokens)] * (self.group // self.answers_a_row)

    def prepare(
        self,
        *,
        model: Model | Adapter,
        data: PromptData,
        reward_model: RewardModel | RewardAdapter | None = None,
        step: Step,
    ) -> None:
        from .engine import prepare

        prepare(self, model, data, step)

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        yield from check_rewards(self.rewards, bool(facts.get("reward_model")))
        if "reward_model_weight" in self.model_fields_set and not facts.get("reward_model"):
            yield Finding(
                "reward_model_weight is of a reward_model, and there is none",
                "Wire one beside with: `reward_model: reward`.",
                field="reward_model_weight",
            )
        if getattr(self.adapter, "dropout", 0):
            yield Finding(
                "answers are drawn and learnt from by the same model, so it trains without dropout",
                "Leave dropout out of the adapter.",
                "warning",
                "adapter.dropout",
            )
        if self.liger:
            yield Finding(
                "liger replaces the forward pass by which the probabilities of answers are computed here",
                "Leave liger out.",
                field="liger",
            )
        models = facts.get("model", ())
        given = (peft_type(model.config) for model in models if model.kind is Adapter)
        new = self.adapter.kind if isinstance(self.adapter, BeforeText) else ""
        before_text = new or next(filter(is_prompt, given), "")
        if before_text:
            yield Finding(
                f"{before_text} adapters stand before the text, where no probabilities of answers are computed here",
                "Take lora, or another adapter on the layers.",
                field="adapter.type",
            )
        for model in models:
            yield from self._check_room(model)

    def check_launch(self, launch: Launch, facts: Known) -> Iterator[Finding]:
        yield from super().check_launch(launch, facts)
        yield Finding(
            f"{launch.world_size} processes draw other answers than one: the result will be another one, and a run "
            "elsewhere would take it for the same",
            "Keep to one number of processes where results are to be made again.",
            "warning",
        )

    def _check_room(self, model: Facts) -> Iterator[Finding]:
        longest, context = self.longest(model.model.config), context_length(model.model.config)
        if self.max_new_tokens >= longest:
            more = f", or max_length higher, up to {context}" if context and context > longest else ""
            yield Finding(
                f"max_new_tokens {self.max_new_tokens} leaves no room for a prompt in {longest} tokens",
                f"Set it well below {longest}{more}.",
                field="max_new_tokens",
            )


class Groups(Online):
    """Several answers to each prompt, compared with each other."""

    num_generations: int = Field(
        8,
        ge=2,
        also=("group_size", "n_samples_per_prompt", "rloo_k", "num_samples_per_prompt", "n"),
        description="Answers that are drawn to each prompt, and compared with each other.",
    )
    batch_size: int = Field(
        64,
        ge=1,
        also=(
            "gradient_accumulation_steps",
            "global_batch_size",
            "train_batch_size",
            "effective_batch_size",
            "ppo_mini_batch_size",
        ),
        description="Answers that one optimisation step learns from: those of batch_size / num_generations prompts.",
    )
    generation_batch_size: int | None = Field(
        None,
        ge=1,
        also=("rollout_batch_size", "steps_per_generation", "train_prompt_bsz"),
        description="Answers that are drawn at a time, a multiple of `batch_size`; as many where it is not set. Of "
        "more, later steps learn from answers of the model as it was.",
    )
    num_iterations: int = Field(
        1,
        ge=1,
        also=("ppo_epochs", "num_ppo_epochs", "mu"),
        description="Times that each answer is learnt from.",
    )
    epsilon: float = Field(
        0.2,
        gt=0,
        also=("cliprange", "clip_ratio", "eps_clip"),
        description="How far the probability of an answer may move, as a share of what it was when it was drawn, "
        "before it is learnt from no more.",
    )
    mask_truncated: bool = Field(
        False,
        also=("mask_truncated_completions", "overlong_filtering"),
        description="Nothing is learnt from answers that are cut off at max_new_tokens.",
    )

    @property
    def group(self) -> int:
        return self.num_generations

    @property
    def drawn(self) -> int:
        return self.generation_batch_size or self.batch_size

    def rows_of(self, prompt: int) -> list[int]:
        return super().rows_of(prompt) * self.num_iterations

    @property
    def rows_a_step(self) -> float:
        return self.batch_size / self.num_generations

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        called = "generation_batch_size" if self.generation_batch_size else "batch_size"
        if self.drawn % self.batch_size:
            below = self.drawn // self.batch_size * self.batch_size
            yield Finding(
                f"generation_batch_size {self.drawn} is no multiple of batch_size {self.batch_size}",
                f"Set it to {' or '.join(str(size) for size in (below, below + self.batch_size) if size)}.",
                field="generation_batch_size",
            )
        if self.drawn % self.num_generations:
            below = self.drawn // self.num_generations * self.num_generations
            sizes = " or ".join(str(size) for size in (below, below + self.num_generations) if size)
            yield Finding(
                f"{called} {self.drawn} holds no whole number of groups of {self.num_generations} answers",
                f"Set it to {sizes}, or num_generations to a divisor of {self.drawn}.",
                field=called,
            )
