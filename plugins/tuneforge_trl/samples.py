"""Answers to the same few prompts, again and again while a training goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tuneforge import Step
from tuneforge.kit.chats import ChatRefusedError, Messages, Tools, prompt_ids, stop_tokens

from .watching import Watching


@dataclass(frozen=True)
class Prompt:
    """What is shown of a prompt, and the tokens from which it is answered."""

    shown: str
    ids: list[int]


def before_answer(messages: Messages) -> Messages:
    """A conversation up to its last assistant turn; nothing if there is none."""
    turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: turns[-1]] if turns else []


def write_prompts(
    options: Watching, tokenizer: PreTrainedTokenizerBase, held_out: Iterable[tuple[Messages, Tools]], step: Step
) -> None:
    """Chooses the prompts that `options.samples` asks for, of which the held-out ones are the conversations given."""
    prompts: dict[str, Prompt] = {}
    if isinstance(options.samples, list):
        for text in options.samples:
            prompts[text] = Prompt(text, prompt_ids(tokenizer, [{"role": "user", "content": text}]))
    elif options.samples:
        for messages, tools in held_out:
            try:
                ids = prompt_ids(tokenizer, messages, tools)
            except ChatRefusedError:  # such rows are counted where they are left out
                continue
            shown = messages[-1].get("content")
            text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
            prompts.setdefault(text, Prompt(text, ids))
            if len(prompts) == options.samples:
                break
    path = step.scratch / "rows" / "prompts.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([asdict(prompt) for prompt in prompts.values()]), encoding="utf-8")


def read_prompts(step: Step) -> list[Prompt]:
    """What `write_prompts` has chosen; none where it was not called."""
    path = step.scratch / "rows" / "prompts.json"
    if not path.exists():
        return []
    return [Prompt(found["shown"], found["ids"]) for found in json.loads(path.read_text(encoding="utf-8"))]


@torch.no_grad()
def answers(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt], tokens: int, longest: int
) -> list[tuple[str, str]]:
    """What the model answers to each prompt, taking the likeliest token each time; left as it was, and so is every
    random number. Prompts that fill the `longest` row have no answer, and are left out."""
    prompts = [prompt for prompt in prompts if len(prompt.ids) < longest]
    if not prompts:
        return []
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    stops = stop_tokens(inner, tokenizer)
    padding = stops[0] if stops else 0
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), width), padding)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # on the left, so that each is followed by its answer
        ids[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[row, width - len(prompt.ids) :] = 1
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=min(tokens, longest - width),
        eos_token_id=stops or None,
        pad_token_id=padding,
    )
    training, own = model.training, inner.generation_config
    model.eval()
    try:
        inner.generation_config = GenerationConfig()  # generate() would fill in from the model's own what is not set
        output = model.generate(
            input_ids=ids.to(inner.device), attention_mask=mask.to(inner.device), generation_config=config
        )
    finally:
        inner.generation_config = own
        model.train(training)
    found = []
    for prompt, row in zip(prompts, output[:, width:].tolist(), strict=True):
        end = next((place for place, token in enumerate(row) if token in stops), len(row))
        found.append((prompt.shown, str(tokenizer.decode(row[:end], skip_special_tokens=True)).strip()))
    return found
