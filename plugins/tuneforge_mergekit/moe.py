"""Several models made the experts of one mixture, as a method of the merge stage."""

from collections.abc import Iterator
from typing import Literal

from tuneforge import Adapter, Facts, Field, Finding, Known, Merge, Model, Step

from .base import NEEDS, SHARD_SIZE, Dtype
from .checks import Input, of_base, unlike
from .mixtures import MIXTURES, foreseen, unmixable


class Moe(Merge):
    """A mixture of experts: the MLPs of several models of one architecture, between which a router chooses.

    For each token and in each layer, the `experts_per_token` experts compute whose gates are most like the token's
    hidden state. All that is no MLP, such as attention, embeddings and the tokenizer, is that of `base`, or of the
    first model where none is named: what the others have learnt there is left out. Gates are made of `prompts` that
    stand for each model, or drawn at random, for a training that is to follow. Llama and Mistral models become a
    Mixtral, Qwen3 models a Qwen3-MoE. Of mergekit: Goddard et al. 2024, https://arxiv.org/abs/2403.13257
    """

    name = "moe"
    version = 2
    needs = NEEDS
    engine = "tuneforge_mergekit.moe_engine"

    gate: Literal["hidden", "cheap_embed", "random", "uniform_random"] = Field(
        "hidden",
        also=("gate_mode",),
        description="What gates are made of: the base's hidden states at the end of the prompts, layer by layer; the "
        "embeddings of their tokens (cheap_embed); or random numbers, normal or uniform as those of a new layer.",
    )
    prompts: list[list[str]] = Field(
        [], also=("positive_prompts",), description="For each model, texts of the kind that it is to take."
    )
    against: list[list[str]] = Field(
        [], also=("negative_prompts",), description="For each model, texts that others are to take; [] for none."
    )
    experts_per_token: int = Field(
        2, ge=1, also=("num_experts_per_tok",), description="How many experts compute each token."
    )
    noise: float = Field(
        0.0,
        ge=0,
        also=("noise_scale",),
        description="Spread of random numbers that are added to the experts' weights, to set like models apart.",
    )
    dtype: Dtype | None = Field(
        None, description="What weights are stored as; without it, as the base's are.", also=("out_dtype",)
    )
    shard_size: str = SHARD_SIZE

    @property
    def drawn(self) -> bool:
        """Whether gates are random, and prompts not needed."""
        return self.gate.endswith("random")

    def run(self, models: list[Model | Adapter], base: Model | None = None, *, step: Step) -> None:
        from .moe_engine import mix

        mix(self, models, base, step)

    def foresee(self, facts: Known) -> Facts:
        models = facts.get("models", ())
        if not models:
            return super().foresee(facts)
        root = next(iter(facts.get("base", ())), models[0].model)
        return foreseen(root, len(models), self.experts_per_token, self.dtype)

    def check(self, facts: Known) -> Iterator[Finding]:
        models, base = facts.get("models", ()), next(iter(facts.get("base", ())), None)
        named = [Input(f"model {number}", model.model) for number, model in enumerate(models)]
        everyone = [*([Input("the base", base)] if base else []), *named]
        if len(models) < 2:
            yield Finding(f"a mixture has 2 or more models, not {len(models)}", "Wire them to models:.")
            return
        if self.experts_per_token > len(models):
            yield Finding(
                f"{self.experts_per_token} experts a token of {len(models)} models",
                f"Set it to {len(models)} or less.",
                field="experts_per_token",
            )
        for number, model in enumerate(models):
            yield from of_base(f"model {number}", model, base)
        for one in everyone:
            reason = unmixable(one.facts.config)
            if reason:
                yield Finding(f"{one.name} {reason}", f"Mix models of {', '.join(MIXTURES)}.")
        for other in everyone[1:]:
            yield from unlike(everyone[0], other, aligned=True)  # of experts, no embedding is taken
        yield from self._check_prompts(len(models))
        digests = {model.digest for model in models}
        if len(digests) == 1 and None not in digests and not self.noise:
            yield Finding(
                "all models are one: whatever the router chooses, the mixture computes what it does",
                "Wire models that were tuned on different tasks, or set noise for a training that is to follow.",
            )

    def _check_prompts(self, count: int) -> Iterator[Finding]:
        if self.drawn:
            for option in ("prompts", "against"):
                if getattr(self, option):
                    yield Finding(
                        f"with gates that are {self.gate}, {option} are not read", "Leave them out.", field=option
                    )
            return
        for option in ("prompts", "against"):
            given = getattr(self, option)
            if len(given) != count and (given or option == "prompts"):
                yield Finding(
                    f"{option} has {len(given)} lists for {count} models", "Give one for each model.", field=option
                )
        if not all(self.prompts):
            yield Finding("a model has no prompts", "Write some texts of the kind that it is to take.", field="prompts")
        elif len(self.prompts) > 1:
            pairs = [(self.prompts[n], self.against[n : n + 1]) for n in range(len(self.prompts))]
            if all(pair == pairs[0] for pair in pairs):
                yield Finding(
                    "all models have the same prompts, and no router can tell them apart",
                    "Write for each the kind of text that it was tuned on, or choose gate: random.",
                    field="prompts",
                )
