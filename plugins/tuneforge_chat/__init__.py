"""Talking to models and adapters with transformers and PEFT, and serving them to programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from tuneforge import (
    Adapter,
    Artifact,
    Facts,
    Finding,
    Model,
    QuantizedModel,
    Server,
    Speaker,
    StepError,
    Terms,
    Voice,
    hookimpl,
)
from tuneforge.kit.quantized import needs_of

_NEEDS = ("peft>=0.20", "torch>=2.6", "transformers>=5.20")


class _Loading:
    """What talking to an artifact and serving it have in common: transformers loads it."""

    needs: ClassVar[tuple[str, ...]]

    def requires(self, facts: Facts) -> tuple[str, ...]:
        return (*self.needs, *needs_of(facts.model.config))

    def _unfit(self, facts: Facts) -> Iterator[Finding]:
        if facts.template is None:
            yield Finding(
                f"the {facts.kind.kind} has no chat template",
                "Take the model's chat version, or load it again with a template (`template:` of load_model).",
            )
        try:
            self.requires(facts)
        except StepError as error:
            yield error.finding


class Transformers(_Loading, Speaker):
    """Models, quantized ones too, and adapters on what they were trained on, in the chat template they come with.

    The model's own settings of sampling do not count. An answer ends at a stop token of generation_config.json, of the
    tokenizer or of the chat template.
    """

    kinds = (Model, Adapter, QuantizedModel)
    needs = _NEEDS
    engine = "tuneforge_chat.engine"

    def check(self, facts: Facts) -> Iterator[Finding]:
        return self._unfit(facts)

    def open(self, artifact: Artifact, threads: int, context: int | None) -> Voice:
        from .engine import Loaded

        return Loaded(artifact, threads, context)


class TransformersServer(_Loading, Server):
    """Models, quantized ones too, and adapters on the models they were trained on, by transformers.

    For trying a model out on any machine: one request is answered at a time, the others wait. POST /v1/chat/completions
    and /v1/completions, streamed or not, with temperature, top_p, seed, max_tokens and stop; what would change an
    answer and cannot be done, tools for one, is refused. The model's own settings of sampling do not count. An answer
    ends at a stop token of generation_config.json, of the tokenizer or of the chat template.
    """

    name = "transformers"
    kinds = (Model, QuantizedModel, Adapter)
    needs = (*_NEEDS, "starlette>=1.8", "uvicorn>=0.30")

    def check(self, facts: Facts, terms: Terms) -> Iterator[Finding]:
        return self._unfit(facts)

    def serve(self, artifact: Artifact, base: Artifact | None, terms: Terms) -> None:
        from .serving import serve

        serve(artifact, terms)


@hookimpl
def register_server() -> list[type[Server]]:
    return [TransformersServer]


@hookimpl
def register_chat() -> list[type[Speaker]]:
    return [Transformers]
