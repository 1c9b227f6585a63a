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


@torch.inference_mode()
def generate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    batch_size: int,
    done: Callable[[int], object] = lambda rows: None,
) -> list[Answer]:
    """A greedy answer to each prompt, whatever the model's own settings say of sampling, up to one of `stop_tokens`.

    `done` is told how many rows each batch had. Prompts are padded on the left, so that each is followed by its answer.
    """
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    stops = stop_tokens(inner, tokenizer)
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=stops or None,
        pad_token_id=stops[0] if stops else 0,
    )
    answers: dict[int, Answer] = {}
    own = inner.generation_config
    # generate() fills in what is not set from the model's own settings: sampling, penalties and the like.
    inner.generation_config = GenerationConfig()
    try:
        for batch in by_length([len(prompt) for prompt in prompts], batch_size):
            longest = max(len(prompts[index]) for index in batch)
            ids = torch.full((len(batch), longest), config.pad_token_id, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for place, index in enumerate(batch):
                ids[place, longest - len(prompts[index]) :] = torch.tensor(prompts[index])
                mask[place, longest - len(prompts[index]) :] = 1
            output = model.generate(  # type: ignore[operator]
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=config
            )
            for index, generated in zip(batch, output[:, longest:].tolist(), strict=True):
                end = next((place for place, token in enumerate(generated) if token in stops), None)
                written = generated if end is None else generated[:end]
                text = answer_text(tokenizer, written)
                answers[index] = Answer(text, len(written) + (end is not None), end is not None)
            done(len(batch))
    finally:
        inner.generation_config = own
    return [answers[index] for index in range(len(prompts))]


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
