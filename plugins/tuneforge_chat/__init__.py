"""Talking to models and adapters with transformers and PEFT."""

from __future__ import annotations

from collections.abc import Iterator

from tuneforge import Adapter, Artifact, Facts, Finding, Model, QuantizedModel, Speaker, Voice, hookimpl
from tuneforge.kit.quantized import needs_of


class Transformers(Speaker):
    """Models, quantized ones too, and adapters on what they were trained on, in the chat template they come with.

    The model's own settings of sampling do not count. An answer ends at a stop token of generation_config.json, of the
    tokenizer or of the chat template.
    """

    kinds = (Model, Adapter, QuantizedModel)
    needs = ("peft>=0.20", "torch>=2.6", "transformers>=5.20")
    engine = "tuneforge_chat.engine"

    def requires(self, facts: Facts) -> tuple[str, ...]:
        return (*self.needs, *needs_of(facts.model.config))

    def check(self, facts: Facts) -> Iterator[Finding]:
        if facts.template is None:
            yield Finding(
                f"the {facts.kind.kind} has no chat template",
                "Talk to the model's chat version, or load it again with a template (`template:` of load_model).",
            )

    def open(self, artifact: Artifact, threads: int, context: int | None) -> Voice:
        from .engine import Loaded

        return Loaded(artifact, threads, context)


@hookimpl
def register_chat() -> list[type[Speaker]]:
    return [Transformers]
