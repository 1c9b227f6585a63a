"""Merging an adapter, as a method of the merge stage."""

from collections.abc import Iterator

from tuneforge import Adapter, Artifact, Facts, Finding, Kinds, Known, Merge, Model, RewardAdapter, RewardModel, Step
from tuneforge.kit.adapters import ON_QUANTIZED, peft_type, quantized_base, unmergeable


class MergeAdapter(Merge):
    """Adds an adapter's weights to those of the model it was trained on, for a model that needs no PEFT.

    The sum is made in float32, must give the logits of the model with the adapter beside it, and is stored in the type
    of the model's own weights; how far that rounding moves the logits is told. Of the adapter of a reward model it is
    the scores that must stay.
    """

    name = "adapter"
    needs = ("accelerate>=1.10", "peft>=0.20", "torch>=2.6", "transformers>=5.20")
    engine = "tuneforge_peft.merging"

    def run(self, model: Adapter | RewardAdapter, step: Step) -> None:
        from .merging import merge

        merge(model, step)

    def writes(self, kinds: Kinds) -> type[Artifact]:
        return RewardModel if any(issubclass(kind, RewardAdapter) for kind in kinds.get("model", ())) else Model

    def foresee(self, facts: Known) -> Facts:
        adapter = next(iter(facts.get("model", ())), None)
        if adapter is None or adapter.base is None:
            return super().foresee(facts)
        base = adapter.model
        return Facts(
            self.writes({"model": [adapter.kind]}),
            base.config,
            base.tensors,
            adapter.tokenizer or base.tokenizer,
            adapter.template,
        )

    def check(self, facts: Known) -> Iterator[Finding]:
        for adapter in facts.get("model", ()):
            reason = unmergeable(peft_type(adapter.config))
            if reason:
                yield Finding(
                    f"the adapter cannot be merged: {reason}",
                    "Use it beside its base, or train one that can be merged, such as lora.",
                )
            rounded = quantized_base(adapter.config)
            if rounded:
                yield Finding(
                    f"the adapter was trained on a base rounded to {rounded} and is merged into the base as it was, "
                    "which differs from what it was trained on by what the rounding took away",
                    "Measure the merged model; the adapter beside its full base computes the same.",
                    "warning",
                )
            if "quantization_config" in adapter.model.config:
                yield Finding(*ON_QUANTIZED)
