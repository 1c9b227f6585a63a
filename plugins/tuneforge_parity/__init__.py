"""Parity: proof that another form of a model says what the trained one says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from tuneforge import (
    Adapter,
    Artifact,
    ChatData,
    Evaluate,
    Extension,
    Field,
    Finding,
    Gguf,
    Known,
    Model,
    PreferenceData,
    QuantizedModel,
    RewardAdapter,
    RewardModel,
    Step,
    StepError,
    TextData,
    hookimpl,
)
from tuneforge.kit.quantized import needs_of

from .extension import Parity
from .kinds import Probe
from .options import Bars, Formats

_ALL = ("numpy>=1.26", "pyarrow>=18", "safetensors>=0.4")
_LLAMA_CPP = ("gguf>=0.19", "jinja2>=3.1", "xllamacpp>=2026.10")
_TRANSFORMERS = ("torch>=2.6", "transformers>=5.20")
_PEFT = ("peft>=0.20",)


class RecordProbe(Evaluate):
    """What one form of a model says, recorded in the environment that this form needs.

    Models, adapters on their bases and quantized models are asked with transformers, GGUF files with llama.cpp: how
    the form's own chat template renders prompts, their token ids and those of a few hundred plain strings, at which
    tokens answers end, what it holds for the next token at positions within the data's answers, and what it answers
    itself, greedily. Of a reward model, its scores. Also how many bits its files hold for a weight.

    Prompts are rows of `data`: held-out ones where there are any, chosen by the recipe's seed and their content; of
    preference data, prompts with the chosen answers. Without data there are a few built-in ones. Long messages are cut
    short, and rows with tools are passed over. `evaluate: parity` compares two of such records.
    """

    name = "probe"
    output: ClassVar[type[Artifact]] = Probe
    needs = tuple(sorted((*_ALL, *_LLAMA_CPP, *_PEFT, *_TRANSFORMERS)))
    engine = "tuneforge_parity.recording"

    limit: int = Field(8, ge=1, description="Prompts to ask.", also=("max_samples", "num_samples"))
    positions: int = Field(16, ge=1, description="Positions of an answer at which the next token is recorded, at most.")
    max_new_tokens: int = Field(32, ge=1, description="Tokens after which an answer is cut off.", also=("max_tokens",))

    def requires(self, facts: Known) -> tuple[str, ...]:
        needs = [*_ALL]
        for given in facts.get("model", ()):
            if issubclass(given.kind, Gguf):
                needs += _LLAMA_CPP
            else:
                # peft for a quantized model, too, so that the environment which made it can be shared.
                needs += (*_PEFT, *_TRANSFORMERS)
                if issubclass(given.kind, QuantizedModel) and _problem(given.config) is None:
                    needs += needs_of(given.config)
        return tuple(sorted(needs))

    def check(self, facts: Known) -> Iterator[Finding]:
        for given in facts.get("model", ()):
            problem = _problem(given.config) if issubclass(given.kind, QuantizedModel) else None
            if problem is not None:
                yield problem

    def run(
        self,
        model: Model | Adapter | RewardModel | RewardAdapter | QuantizedModel | Gguf,
        data: ChatData | TextData | PreferenceData | None = None,
        *,
        step: Step,
    ) -> None:
        from .recording import record

        record(self, model, data, step)


class CompareProbes(Evaluate):
    """Whether a form of a model says what another says, by their probes: `reference` is that of the trained form.

    - template, prompt_ids, string_ids: share of prompts rendered to the same text; of prompts, and of plain strings,
      with the same token ids
    - stop_tokens: 1 if answers end at the same tokens
    - top1: share of positions within the data's answers where both hold the same token for the likeliest
    - kl_mean, kl_p99: Kullback-Leibler divergence from the reference's next-token distribution, in nats: the mean over
      the positions, and the 99th percentile
    - perplexity_ratio: of the perplexities on the data's answers, the larger over the smaller
    - answers: share of greedy answers that are the same, their end included
    - bits: bits a weight, measured in the files, embeddings aside
    - score_error: of reward models, the greatest difference of two scores, as a share of the spread of the scores

    What is asked hangs on the format that the form's own files claim; `formats` changes that by format, `require` for
    this step. A form that fails is not published. parity.md holds the table, parity.svg the divergences.
    """

    name = "parity"
    needs = ("numpy>=1.26", "safetensors>=0.4")
    engine = "tuneforge_parity.comparing"

    require: Bars = Field(Bars(), description="What this form must reach, in place of its format's: {kl_mean: 0.1}.")
    formats: Formats = Field({}, description="The same by format: {bits4: {kl_mean: 0.1}}.")

    def run(self, reference: Probe, model: Probe, step: Step) -> None:
        from .comparing import compare

        compare(self, reference, model, step)


def _problem(config: object) -> Finding | None:
    try:
        needs_of(config)  # type: ignore[arg-type]
    except StepError as error:
        return error.finding
    return None


@hookimpl
def register_evaluate() -> list[type[Evaluate]]:
    return [RecordProbe, CompareProbes]


@hookimpl
def register_extension() -> list[type[Extension]]:
    return [Parity]
