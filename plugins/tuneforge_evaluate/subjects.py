"""The models that are measured: loaded one at a time, all on the same rows."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneforge import Adapter, ChatData, Model, PreferenceData, Step, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.chats import IGNORED, ChatRefusedError, Tokens, prompt_ids, tokenize_chat
from tuneforge.kit.models import device, full_model, load_model, load_tokenizer, stored_dtype
from tuneforge.kit.rows import Split, count_rows, read_rows

from . import context_of

Item = TypeVar("Item")
Row = dict[str, Any]


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


def prepare(
    models: Sequence[Model | Adapter],
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
        context = context_of(read_json(full_model(model).path / "config.json"))
        given = items.setdefault(model.digest, {})
        for index, row in enumerate(rows):
            try:
                given[index] = convert(tokenizer, row)
                if context is not None and length(given[index]) > context:
                    raise LeftOutError(f"longer than a context of {context} tokens")
            except LeftOutError as reason:
                reasons.setdefault(index, str(reason))
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


def answer_tokens(tokenizer: PreTrainedTokenizerBase, row: Row, prompt: list[Any], answer: list[Any]) -> Tokens:
    """A prompt and its answer, with labels on the answer alone: not on what the assistant says in the prompt.

    Raises LeftOutError if the answer has no token.
    """
    tokens = tokenize_chat(tokenizer, [*prompt, *answer], row.get("tools"))
    start = 0
    # The first token of an answer may begin with the last character of the prompt, so that the prompt is not counted
    # but compared.
    for ours, theirs in zip(prompt_ids(tokenizer, prompt, row.get("tools")), tokens.ids, strict=False):
        if ours != theirs:
            break
        start += 1
    labels = [IGNORED] * start + tokens.labels[start:]
    if all(label == IGNORED for label in labels):
        raise LeftOutError("without an answer of the assistant")
    return Tokens(tokens.ids, labels)


@contextmanager
def loaded(model: Model | Adapter, dtype: str) -> Iterator[PreTrainedModel | PeftModel]:
    """A model for as long as the block lasts; its memory is then free for the next."""
    held = load_model(model, dtype=_dtype(model, dtype))
    try:
        yield held
    finally:
        del held
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in batches, the longest first: a batch that does not fit into memory shows at once."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    yield from (order[start : start + size] for start in range(0, len(order), size))


def _dtype(model: Model | Adapter, name: str) -> torch.dtype:
    if name != "auto":
        return getattr(torch, name)
    return torch.float32 if device().type == "cpu" else stored_dtype(model)
