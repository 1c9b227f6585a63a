"""Taking out of a fine-tuned model what it learnt, as an adapter: a method of the merge stage."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import field_validator

from tuneforge import Adapter, Facts, Field, Finding, Known, Merge, Model, Step

from .base import NEEDS
from .checks import Input, unlike

_CONV1D = ("gpt2", "openai-gpt")
"""Model types whose layers are transformers' Conv1D, which mergekit does not take apart."""


class ExtractLora(Merge):
    """A LoRA out of a fine-tuned model: for each changed layer, the nearest change of low rank, by mergekit.

    What changed in a linear layer becomes two matrices of rank `rank`, by its largest singular values; at full rank the
    adapter on its base computes what the model does. What is no matrix, such as norms, or has a changed bias, and with
    `embeddings: whole` the embeddings too, is kept whole if it changed. Layers that are as they were get nothing.
    """

    name = "extract_lora"
    output = Adapter
    version = 2
    needs = NEEDS
    engine = "tuneforge_mergekit.extract_engine"

    rank: int = Field(
        32, ge=1, also=("max_rank", "r", "lora_rank"), description="Rank of each layer, or less where it is smaller."
    )
    epsilon: float = Field(
        0.0, ge=0, also=("sv_epsilon",), description="Singular values up to this are left out, whatever the rank."
    )
    embeddings: Literal["whole", "lora", "leave"] = Field(
        "whole",
        also=("embed_lora",),
        description="Changed embeddings and output head: kept whole, made low-rank too, or left as in the base.",
    )
    whole: bool = Field(
        True,
        also=("skip_undecomposable",),
        description="Keeps other changed layers that are no matrix whole; else they are left as in the base. llama.cpp "
        "and vLLM take adapters without whole layers only.",
    )
    include: list[str] = Field(
        [], also=("include_regexes",), description="Regular expressions of layers to take; all where there is none."
    )
    exclude: list[str] = Field(
        [], also=("exclude_regexes",), description="Regular expressions of layers to leave as in the base."
    )

    @field_validator("include", "exclude")
    @classmethod
    def _compiles(cls, given: list[str]) -> list[str]:
        for pattern in given:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return given

    def takes(self, layer: str) -> bool:
        """Whether a layer of this name is to be looked at."""
        wanted = not self.include or any(re.search(pattern, layer) for pattern in self.include)
        return wanted and not any(re.search(pattern, layer) for pattern in self.exclude)

    def run(self, model: Model, base: Model, step: Step) -> None:
        from .extract_engine import extract

        extract(self, model, base, step)

    def foresee(self, facts: Known) -> Facts:
        models, bases = facts.get("model"), facts.get("base")
        if not models or not bases:
            return super().foresee(facts)
        config = {"peft_type": "LORA", "r": self.rank, "lora_alpha": self.rank}
        return Facts(Adapter, config, {}, models[0].tokenizer, models[0].template, bases[0])

    def check(self, facts: Known) -> Iterator[Finding]:
        for model, base in zip(facts.get("model", ()), facts.get("base", ()), strict=False):
            kind = base.config.get("model_type")
            if kind in _CONV1D:
                yield Finding(f"the layers of a {kind} are not taken apart by mergekit", "Leave this step out.")
            yield from apart(model, base)
            tied = base.config.get("tie_word_embeddings")
            if tied and self.embeddings == "lora":
                yield Finding(
                    "embeddings and output head of the base are one matrix, to which PEFT would add a low-rank change "
                    "twice when it is merged",
                    "Set embeddings to whole or leave.",
                    field="embeddings",
                )


def apart(model: Facts, base: Facts) -> Iterator[Finding]:
    """What keeps two models from being compared weight by weight, or from computing alike."""
    fix = "Name the model that it was trained from."
    align = f"{fix[:-1]}; of another vocabulary there is no extraction."
    yield from unlike(Input("the base", base), Input("the model", model), fix=fix, align=align)
