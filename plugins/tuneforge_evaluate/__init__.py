"""Evaluation: reports on models and adapters, made on the held-out part of a data artifact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tuneforge import (
    Adapter,
    ChatData,
    Config,
    Evaluate,
    Field,
    Finding,
    Known,
    Model,
    PreferenceData,
    QuantizedModel,
    RewardAdapter,
    RewardModel,
    Step,
    hookimpl,
)
from tuneforge.artifacts import context_length
from tuneforge.kit.quantized import needs_of

NEEDS = ("peft>=0.20", "pyarrow>=18", "torch>=2.6", "transformers>=5.20")


class Measuring(Config):
    """How models are measured: on which rows, in which precision."""

    limit: int | None = Field(
        None,
        ge=1,
        also=("max_samples", "num_samples", "eval_samples"),
        description="Rows to measure on, the first ones; by default all of the held-out part.",
    )
    batch_size: int = Field(
        16,
        ge=1,
        also=("per_device_eval_batch_size", "eval_batch_size"),
        description="Rows in memory at once. The last bits of a logit depend on it, so it counts for the result.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        also=("torch_dtype", "precision"),
        description="Precision of the computation; auto: as the weights are stored, on a CPU float32.",
    )

    def check(self, facts: Known) -> Iterator[Finding]:
        for place, given in enumerate(facts.get("models", ()), 1):
            if given.tokenizer is not None and given.template is None:
                yield Finding(
                    f"model {place} of models has no chat template, so it cannot read conversations",
                    "Take the model's chat version, or add a chat_template.jinja to its folder.",
                )


class GenerationBars(Config):
    """What every measured model must reach."""

    exact_match: float | None = Field(None, ge=0, le=1, description="Least share of answers equal to the reference.")
    record_match: float | None = Field(None, ge=0, le=1, description="Least share of records equal to the reference's.")
    finished: float | None = Field(None, ge=0, le=1, description="Least share of answers that end by themselves.")
    perplexity: float | None = Field(None, ge=1, description="Greatest perplexity.")
    reward: float | None = Field(None, description="Least mean score by the reward model.")


class Generation(Measuring, Evaluate):
    """Answers to the data's prompts, compared with its own answers; several models side by side.

    A row's prompt is its conversation up to the last assistant turn. The answer is generated greedily, whatever the
    model's own settings say of sampling, and ends at a stop token of its generation_config.json, of its tokenizer or of
    its chat template.

    - exact_match: share of answers whose text equals the reference's, white space around it aside
    - record_match: the same of the first JSON object (or list of objects) in each, whatever the order of keys; of the
      rows whose reference holds one, `records` of them; not told where none does
    - perplexity: exp of the mean negative log-likelihood, in nats a token, of the assistant's turns and terminators
    - finished: share of answers that ended before `max_new_tokens`; new_tokens: mean length of an answer in tokens
    - reward: mean score of the conversations with these answers, where there is a `reward_model`; it has no unit

    Rows that do not fit into the context of one of the models are left out for all of them, and counted. `require`
    sets what each model must reach; publishing refuses one that does not. A quantized model is loaded by the library
    that its quantization needs; the others then run in that library's environment, too.
    """

    name = "generation"
    version = 3
    needs = NEEDS
    engine = "tuneforge_evaluate.generation"

    max_new_tokens: int = Field(
        256,
        ge=1,
        also=("max_tokens", "max_gen_toks", "max_new_token", "num_predict"),
        description="Tokens after which an answer is cut off.",
    )
    require: GenerationBars = Field(
        GenerationBars(), description="What a model must reach to be published: {record_match: 0.8}."
    )

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        for place, given in enumerate(facts.get("models", ()), 1):
            context = context_length(given.model.config)
            if context is not None and self.max_new_tokens >= context:
                yield Finding(
                    f"max_new_tokens {self.max_new_tokens} leaves no room for a prompt in the context of model {place} "
                    f"of models, {context} tokens",
                    f"Set it well below {context}.",
                    field="max_new_tokens",
                )
        if self.require.reward is not None and not facts.get("reward_model"):
            yield Finding(
                "require asks for a reward, and there is no reward model to tell it",
                "Wire one: reward_model: NAME, or leave it out of require.",
                field="require.reward",
            )

    def requires(self, facts: Known) -> tuple[str, ...]:
        quantized = {need for given in facts.get("models", ()) for need in needs_of(given.model.config)}
        return (*self.needs, *sorted(quantized))

    def run(
        self,
        models: list[Model | Adapter | QuantizedModel],
        data: ChatData,
        reward_model: RewardModel | RewardAdapter | None = None,
        *,
        step: Step,
    ) -> None:
        from .generation import evaluate

        evaluate(self, models, data, reward_model, step)


class PreferenceBars(Config):
    """What every measured model must reach."""

    preference_accuracy: float | None = Field(
        None, ge=0, le=1, description="Least share of pairs whose chosen answer is the more likely."
    )
    preference_accuracy_per_token: float | None = Field(
        None, ge=0, le=1, description="Least share of pairs whose chosen answer is the more likely, per token."
    )
    preference_margin: float | None = Field(None, description="Least mean margin, in nats.")


class Preference(Measuring, Evaluate):
    """Which answer of each pair a model finds the more likely, or a reward model the better; several side by side.

    An answer's log-likelihood is the sum over its tokens, terminator included, given the prompt, as DPO has it.

    - preference_accuracy: share of pairs with logp(chosen) > logp(rejected)
    - preference_accuracy_per_token: the same of the mean over an answer's tokens, which does not favour short ones
    - preference_margin: mean of logp(chosen) - logp(rejected), in nats

    Of a reward model, its scores stand in place of log-likelihoods: preference_accuracy and preference_margin, the
    latter without a unit.

    Pairs that do not fit into the context of one of the models are left out for all of them, and counted. `require`
    sets what each model must reach; publishing refuses one that does not.
    """

    name = "preference"
    version = 2
    needs = NEEDS
    engine = "tuneforge_evaluate.preference"

    require: PreferenceBars = Field(
        PreferenceBars(), description="What a model must reach to be published: {preference_accuracy: 0.9}."
    )

    def run(
        self, models: list[Model | Adapter | RewardModel | RewardAdapter], data: PreferenceData, step: Step
    ) -> None:
        from .preference import evaluate

        evaluate(self, models, data, step)


@hookimpl
def register_evaluate() -> list[type[Evaluate]]:
    return [Generation, Preference]
