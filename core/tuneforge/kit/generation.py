"""Greedy answers to prompts, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from .chats import stop_tokens


@dataclass(frozen=True)
class Answer:
    """What was generated: its text, its length in tokens, and whether it ended by itself."""

    text: str
    tokens: int
    finished: bool


def generate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    batch_size: int,
    done: Callable[[int], object] = lambda rows: None,
) -> list[Answer]:
    """A greedy answer to each prompt, up to one of `stop_tokens`; `done` is told how many rows each batch had."""
    stops = stop_tokens(inner_model(model), tokenizer)
    answers: dict[int, Answer] = {}
    for batch in by_length([len(prompt) for prompt in prompts], batch_size):
        given = greedy(model, [prompts[index] for index in batch], stops, max_new_tokens)
        for index, ids in zip(batch, given, strict=True):
            finished = bool(ids) and ids[-1] in stops
            text = answer_text(tokenizer, ids[:-1] if finished else ids)
            answers[index] = Answer(text, len(ids), finished)
        done(len(batch))
    return [answers[index] for index in range(len(prompts))]


@torch.no_grad()
def greedy(model: Any, prompts: Sequence[list[int]], stops: Sequence[int], max_new_tokens: int) -> list[list[int]]:
    """The likeliest token after the other to each prompt, with the one of `stops` that ends it, all in one batch.

    Whatever the model's own settings say of sampling. It is left as it was, and so is every random number.
    """
    inner = inner_model(model)
    padding = stops[0] if stops else 0
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), padding)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # on the left, so that each is followed by its answer
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    config = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=list(stops) or None, pad_token_id=padding
    )
    training, own = model.training, inner.generation_config
    model.eval()
    try:
        # generate() fills in what is not set from the model's own settings: sampling, penalties and the like.
        inner.generation_config = GenerationConfig()
        output = model.generate(
            input_ids=ids.to(inner.device), attention_mask=mask.to(inner.device), generation_config=config
        )
    finally:
        inner.generation_config = own
        model.train(training)
    found = []
    for row in output[:, width:].tolist():
        end = next((place for place, token in enumerate(row) if token in stops), len(row))
        found.append(row[: end + 1])
    return found


def inner_model(model: Any) -> Any:
    """The model itself, where it has an adapter on it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def answer_text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of an answer, without special tokens and white space around it."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()


def by_length(lengths: Sequence[int], size: int, tokens: int | None = None) -> Iterator[list[int]]:
    """Indices in batches of at most `size` rows and, padding included, `tokens` tokens; a single row may have more.

    The longest come first: a batch that does not fit into memory shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        rows = size if tokens is None else max(1, min(size, tokens // lengths[order[0]]))
        yield order[:rows]
        del order[:rows]
