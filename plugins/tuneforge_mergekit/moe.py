"""Several models made the experts of one mixture, as a method of the merge stage."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tuneforge import Adapter, Facts, Field, Finding, Known, Merge, Model, Step
from tuneforge.artifacts import Tensor

NEEDS = ("mergekit~=0.1.5", "peft>=0.20", "torch>=2.6", "transformers>=5.20")

MIXTURES = {
    "llama": ("mixtral", "MixtralForCausalLM"),
    "mistral": ("mixtral", "MixtralForCausalLM"),
    "qwen3": ("qwen3_moe", "Qwen3MoeForCausalLM"),
}
"""The mixture that models of a type become, as transformers calls it."""

_SHARED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")


class Moe(Merge):
    """A mixture of experts: the MLPs of several models of one architecture, between which a router chooses, by mergekit.

    For each token and layer the router takes the `experts_per_token` experts whose gates fit its hidden state best.
    Attention, embeddings and norms, which the experts share, are those of `base`, the first model where it is not
    named. Gates are made of `prompts` that stand for each expert, or at random, for a training that follows.
    Llama and Mistral models become a Mixtral, Qwen3 models a Qwen3-MoE.
    """

    name = "moe"
    needs = NEEDS
    engine = "tuneforge_mergekit.moe_engine"

    gate: Literal["hidden", "hidden_avg", "cheap_embed", "random", "uniform_random"] = Field(
        "hidden",
        also=("gate_mode",),
        description="What gates are made of: the base's hidden state at the end of the prompts, layer by layer, or its "
        "mean over their tokens (hidden_avg); the embeddings of their tokens (cheap_embed); or numbers drawn at random, "
        "normal (random) or as new layers have them (uniform_random).",
    )
    prompts: list[list[str]] = Field(
        [], also=("positive_prompts",), description="For each model, texts of the kind that it is to answer."
    )
    against: list[list[str]] = Field(
        [], also=("negative_prompts",), description="For each model, texts that it is not to answer; may be empty lists."
    )
    experts_per_token: int = Field(
        2, ge=1, also=("num_experts_per_tok",), description="How many experts compute each token."
    )
    noise: float = Field(
        0.0,
        ge=0,
        also=("noise_scale",),
        description="Spread of random numbers added to the experts' weights, to set apart experts that are alike.",
    )

    @property
    def drawn(self) -> bool:
        """Whether gates are random, and prompts not needed."""
        return self.gate.endswith("random")

    def run(self, models: list[Model | Adapter], step: Step, base: Model | Adapter | None = None) -> None:
        raise NotImplementedError
