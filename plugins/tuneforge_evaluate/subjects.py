"""The models that are measured: loaded one at a time, all on the same rows."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneforge import (
    Adapter,
    ChatData,
    Model,
    PreferenceData,
    QuantizedModel,
    RewardAdapter,
    RewardModel,
    Step,
    StepError,
)
from tuneforge.artifacts import context_length, read_json
from tuneforge.kit.chats import IGNORED, ChatRefusedError, Tokens, after_prompt
from tuneforge.kit.models import full_model, inference_dtype, load_model, load_tokenizer
from tuneforge.kit.quantized_models import load_quantized
from tuneforge.kit.rows import Split, count_rows, read_rows

Item = TypeVar("Item")
Row = dict[str, Any]
Subject = Model | Adapter | QuantizedModel | RewardModel | RewardAdapter

WITHOUT_ANSWER = "without an answer of the assistant to a prompt"


class LeftOutError(Exception):
    """A row that a model cannot be measured on; its text is the reason, the same for all rows of that kind."""


@dataclass(frozen=True)
class Measured(Generic[Item]):
    """The rows that are measured on, and for each model, by digest, what it is given for each of them.

    `left_out` counts the other rows by reason.
    """

    split: Split
    rows: list[Row]
    items: dict[str, list[Item]]
    left_out: Counter[str]


class Progress:
    """Tells a step how many of `total` rows are done, when it is called with how many came to that."""

    def __init__(self, step: Step, total: int) -> None:
        self._step, self._done, self._total = step, 0, total

    def __call__(self, rows: int) -> None:
        self._done += rows
        self._step.progress(self._done, self._total)


def prepare(
    models: Sequence[Subject],
    data: ChatData | PreferenceData,
    limit: int | None,
    convert: Callable[[PreTrainedTokenizerBase, Row], Item],
    length: Callable[[Item], int],
    step: Step,
) -> Measured[Item]:
    """The held-out rows as `convert` makes them for each model's tokenizer, `length` of each being tokens of context.

    A row that one model cannot take is taken from all, so that they are compared on the same ones. Raises StepError if
    none is left. Data without a held-out part is measured on as a whole, with a warning.
    """
    split: Split = "held_out" if count_rows(data, "held_out") else "train"
    if split == "train":
        step.log("warning: the data has no held-out part; measured on the rows that models are trained on")
    rows = list(islice(read_rows(data, split), limit))
    items: dict[str, dict[int, Item]] = {}
    reasons: dict[int, str] = {}
    for model in models:
        tokenizer = load_tokenizer(model)
        context = context_length(read_json(full_model(model).path / "config.json"))
        given = items.setdefault(model.digest, {})
        for index, row in enumerate(rows):
            try:
                given[index] = convert(tokenizer, row)
                if context is not None and length(given[index]) > context:
                    raise LeftOutError(f"longer than a context of {context} tokens")
            except LeftOutError as error:
                reasons.setdefault(index, str(error))
            except ChatRefusedError:
                reasons.setdefault(index, "refused by the chat template")
    left_out = Counter(reasons.values())
    for reason, count in sorted(left_out.items()):
        step.log(f"left out {count} of {len(rows)} rows: {reason}")
    kept = [index for index in range(len(rows)) if index not in reasons]
    if not kept:
        why = "; ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "the data has none"
        raise StepError(f"there is nothing to measure on: no row is left ({why})", "Take data that suits the models.")
    return Measured(
        split,
        [rows[index] for index in kept],
        {digest: [given[index] for index in kept] for digest, given in items.items()},
        left_out,
    )


def answer_labels(tokens: Tokens, prompt: Sequence[int]) -> list[int]:
    """The labels of a conversation on what follows the prompt: not on what the assistant says within the prompt.

    Raises LeftOutError if there are none.
    """
    labels = after_prompt(tokens, prompt).labels
    if all(label == IGNORED for label in labels):
        raise LeftOutError(WITHOUT_ANSWER)
    return labels


def load(model: Model | Adapter | QuantizedModel, dtype: str) -> PreTrainedModel | PeftModel:
    """A model in the precision of that name, or with `auto` as it is stored, on a CPU in float32."""
    if isinstance(model, QuantizedModel):
        return load_quantized(model, dtype=dtype_of(model, dtype))
    return load_model(model, dtype=dtype_of(model, dtype))


def dtype_of(subject: Subject, name: str) -> torch.dtype:
    """The precision of that name, or with `auto` the one that the weights are stored in, on a CPU float32."""
    return inference_dtype(subject) if name == "auto" else getattr(torch, name)


def free() -> None:
    """Gives the memory of a model that nothing refers to any more to the next one."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
