"""Answers to the same few prompts, again and again while a training goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from tuneforge import Step
from tuneforge.kit.chats import ChatRefusedError, Messages, Tools, prompt_ids, stop_tokens
from tuneforge.kit.generation import greedy, inner_model

from ..rows.texts import begun
from .options import Sampling

_BEGINNING = 80
"""Characters of a document from which the model goes on."""


@dataclass(frozen=True)
class Prompt:
    """What is shown of a prompt, and the tokens from which it is answered."""

    shown: str
    ids: list[int]


def before_answer(messages: Messages) -> Messages:
    """A conversation up to its last assistant turn; nothing if there is none."""
    turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: turns[-1]] if turns else []


def chat_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools = None) -> Prompt:
    """A conversation that is to be answered; shown is its last message. Raises ChatRefusedError."""
    ids = prompt_ids(tokenizer, messages, tools)
    shown = messages[-1].get("content")
    return Prompt(shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False), ids)


def chat_prompts(
    tokenizer: PreTrainedTokenizerBase, conversations: Iterable[tuple[Messages, Tools]]
) -> Iterator[Prompt]:
    """Those of the conversations that the template takes: such rows are counted where they are left out."""
    for messages, tools in conversations:
        with suppress(ChatRefusedError):
            yield chat_prompt(tokenizer, messages, tools)


def written_chats(tokenizer: PreTrainedTokenizerBase, options: Sampling) -> Iterator[Prompt]:
    """What a person wrote as prompts, each as the only message of a conversation."""
    for text in options.samples if isinstance(options.samples, list) else ():
        yield chat_prompt(tokenizer, [{"role": "user", "content": text}])


def text_prompts(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Iterator[Prompt]:
    """Texts that are to be gone on with."""
    for text in texts:
        yield Prompt(text, begun(tokenizer, text))


def beginning(text: str) -> str:
    """The first words of a text."""
    cut = text[:_BEGINNING]
    return cut if cut == text else cut.rpartition(" ")[0] or cut


def write_prompts(options: Sampling, held_out: Iterable[Prompt], written: Iterable[Prompt], step: Step) -> None:
    """Chooses the prompts that `options.samples` asks for, for `read_prompts`: the `written` ones, or held-out ones."""
    prompts: dict[str, Prompt] = {}
    if isinstance(options.samples, list):
        prompts = {prompt.shown: prompt for prompt in written}
    elif options.samples:
        for prompt in held_out:
            prompts.setdefault(prompt.shown, prompt)
            if len(prompts) == options.samples:
                break
    path = step.scratch / "rows" / "prompts.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([asdict(prompt) for prompt in prompts.values()]), encoding="utf-8")


def write_text_prompts(
    options: Sampling, tokenizer: PreTrainedTokenizerBase, held_out: Iterable[Mapping[str, Any]], step: Step
) -> None:
    """The same for rows of text: their prompts, or the first words of those that have none."""
    texts = (row["prompt"] or beginning(row["completion"]) for row in held_out)
    written = options.samples if isinstance(options.samples, list) else []
    write_prompts(options, text_prompts(tokenizer, texts), text_prompts(tokenizer, written), step)


def read_prompts(step: Step) -> list[Prompt]:
    """What `write_prompts` has chosen; none where it was not called."""
    path = step.scratch / "rows" / "prompts.json"
    if not path.exists():
        return []
    return [Prompt(found["shown"], found["ids"]) for found in json.loads(path.read_text(encoding="utf-8"))]


def answers(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt], tokens: int, longest: int
) -> list[tuple[str, str]]:
    """What the model answers to each prompt, taking the likeliest token each time; left as it was, and so is every
    random number. Prompts that fill the `longest` row have no answer, and are left out."""
    prompts = [prompt for prompt in prompts if len(prompt.ids) < longest]
    if not prompts:
        return []
    stops = stop_tokens(inner_model(model), tokenizer)
    width = max(len(prompt.ids) for prompt in prompts)
    found = []
    given = greedy(model, [prompt.ids for prompt in prompts], stops, min(tokens, longest - width))
    for prompt, row in zip(prompts, given, strict=True):
        written = [token for token in row if token not in stops]
        found.append((prompt.shown, str(tokenizer.decode(written, skip_special_tokens=True)).strip()))
    return found
