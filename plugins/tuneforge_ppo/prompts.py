"""The prompts of a data artifact as tokens, each with its conversation, in files that are read a row at a time."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneforge import Adapter, Model, PromptData, Step, StepError
from tuneforge.artifacts import context_length, read_json
from tuneforge.disk import persist
from tuneforge.kit.chats import ChatRefusedError, prompt_ids, terminator
from tuneforge.kit.models import full_model, load_tokenizer
from tuneforge.kit.rows import Split, read_rows

if TYPE_CHECKING:
    from .ppo import Ppo

_HELD_OUT = 32
"""Held-out prompts that are answered at each measurement, at most; more is the work of an evaluation."""

_UNKNOWN_CONTEXT = 4096


@dataclass(frozen=True)
class Prompt:
    """A conversation that is to be answered: its tokens up to the answer, its messages, and its tools."""

    ids: list[int]
    messages: list[Any]
    tools: list[Any] | None


class Prompts:
    """The prompts of a split, read from disk when they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts = [0]
        with path.open("rb") as file:
            for line in file:
                self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Prompt:
        with self._path.open("rb") as file:
            file.seek(self._starts[index])
            return Prompt(**json.loads(file.readline()))


@dataclass(frozen=True)
class Prepared:
    """What `prepare` has written: the prompts of both splits, and the tokens by which answers end and are padded."""

    train: Prompts
    held_out: Prompts
    left_out: dict[str, int]
    stop: int
    padding: int


def prepare(options: Ppo, model: Model | Adapter, data: PromptData, step: Step) -> None:
    """Writes the prompts that fit as tokens into `step.scratch`, unless that was done before.

    Raises StepError if more than half of those to train on are left out, or where answers have no token to end by.
    """
    folder = step.scratch / "prompts"
    if folder.exists():
        return
    tokenizer = load_tokenizer(model)
    stop = terminator(tokenizer)
    if stop is None:
        step.warn(
            "the chat template ends the assistant's turns with no special token: answers end at the end of a text",
            "Give the model a template that ends a turn with its end-of-turn token.",
        )
        stop = tokenizer.eos_token_id
    if stop is None:
        raise StepError(
            "the tokenizer has no token that ends an answer", "Name one as eos_token in its tokenizer_config.json."
        )
    longest = options.max_length or _room(model, options)
    beside = folder.with_suffix(".new")
    beside.mkdir(exist_ok=True)
    used: set[int] = {stop}
    left_out: Counter[str] = Counter()
    splits: dict[Split, int | None] = {"train": None, "held_out": _HELD_OUT}
    for split, most in splits.items():
        with (beside / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            kept, lost = 0, Counter[str]()
            for row in read_rows(data, split):
                if kept == most:
                    break
                try:
                    ids = prompt_ids(tokenizer, row["prompt"], row["tools"])
                except ChatRefusedError:
                    lost["refused by the chat template"] += 1
                    continue
                if len(ids) > longest:
                    lost[f"longer than {longest} tokens"] += 1
                    continue
                used.update(ids)
                file.write(json.dumps({"ids": ids, "messages": row["prompt"], "tools": row["tools"]}) + "\n")
                kept += 1
        if split == "train":
            left_out = lost
            _tell(kept, lost, step)
    known = {"left_out": left_out, "stop": stop, "padding": _padding(tokenizer, used)}
    (beside / "prompts.json").write_text(json.dumps(known), encoding="utf-8")
    persist(beside)
    beside.rename(folder)


def read_prompts(step: Step) -> Prepared:
    """What `prepare` has written for this step."""
    folder = step.scratch / "prompts"
    known = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    return Prepared(Prompts(folder / "train.jsonl"), Prompts(folder / "held_out.jsonl"), **known)


def _tell(kept: int, lost: Counter[str], step: Step) -> None:
    total = kept + lost.total()
    reasons = "; ".join(f"{count} {reason}" for reason, count in sorted(lost.items()))
    if not kept or 2 * lost.total() > total:
        raise StepError(
            f"there is too little to learn from: {lost.total()} of {total} prompts cannot be used "
            f"({reasons or 'the data has none'})",
            "Raise max_length, lower max_new_tokens, or look at what the format step made of the data.",
        )
    if reasons:
        step.log(f"of {total} prompts are left out: {reasons}")


def _room(model: Model | Adapter, options: Ppo) -> int:
    """What the model's context leaves for a prompt."""
    context = context_length(read_json(full_model(model).path / "config.json")) or _UNKNOWN_CONTEXT
    return max(1, context - options.max_new_tokens)


def _padding(tokenizer: Any, used: set[int]) -> int:
    """A token to pad by that no prompt has, and that ends no answer: TRL takes for padding whatever is that token."""
    candidates = [tokenizer.pad_token_id, *tokenizer.added_tokens_decoder, *range(len(tokenizer))]
    found = next((token for token in candidates if token is not None and token not in used), None)
    if found is None:
        raise StepError(
            "the prompts use every token of the vocabulary, and none is left to pad them by",
            "Give the tokenizer a pad_token that is in no text.",
        )
    return int(found)
