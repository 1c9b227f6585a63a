"""Conversations into tokens: what the model reads, and which of it is under loss.

Everything is rendered by the tokenizer's own chat template, special tokens included, so that training and inference
see the same text: nothing is added to it, a BOS token is there once if the template writes it and not otherwise.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneforge import StepError

from .dates import without_today

IGNORED = -100
"""The label of a token without loss."""

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]] | None
Span = tuple[int, int]

_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


class ChatRefusedError(StepError):
    """A conversation that the chat template cannot express, or not so that the assistant's turns can be told."""


class TurnsUntoldError(ChatRefusedError):
    """A conversation of which it cannot be told what the assistant wrote, though the template takes it."""


@dataclass(frozen=True)
class Tokens:
    """Token ids of a text and, of the same length, their labels: the id where there is loss, else -100."""

    ids: list[int]
    labels: list[int]


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools = None) -> list[int]:
    """The token ids of a conversation as the template renders it.

    Raises ChatRefusedError for one that the template refuses, or whose tools or tool calls it leaves out.
    """
    ids: list[int] = tokenizer(_whole(tokenizer, messages, tools), add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def tokenize_chat(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools = None, since: int = 0
) -> Tokens:
    """A conversation as the template renders it, with loss on every assistant turn and the terminator that ends it.

    There is no loss on what the assistant says before the message of index `since`. A turn is what the rendering
    gains, beyond the prompt for a generation, when the turn's message is added. Where a template renders the beginning
    of a conversation differently once more follows, its `{% generation %}` markers are taken instead. Raises
    ChatRefusedError for a conversation that the template refuses, or whose tools or tool calls it leaves out, and
    TurnsUntoldError where neither way tells the turns.
    """
    text = _whole(tokenizer, messages, tools)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids: list[int] = encoded["input_ids"]
    marked = _MARKERS.search(tokenizer.get_chat_template()) is not None
    try:
        turns = _turns(tokenizer, messages, tools, text, since)
    except ChatRefusedError:
        if not marked:
            raise
        turns = None
    if turns is not None:
        under_loss = _within(turns, text, ids, encoded["offset_mapping"], tokenizer)
    elif marked:
        under_loss = _marked(tokenizer, messages, tools, ids, since)
    else:
        raise TurnsUntoldError(
            "the chat template renders the beginning of a conversation differently once more of it follows, and has "
            "no {% generation %} markers: which tokens the assistant wrote cannot be told",
            "Give the model a template with {% generation %} ... {% endgeneration %} around the assistant's turns, or "
            "train on conversations with one assistant turn each.",
        )
    return Tokens(ids, [token if loss else IGNORED for token, loss in zip(ids, under_loss, strict=True)])


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools = None) -> list[int]:
    """The token ids from which the assistant's next turn is generated."""
    text = prompt_text(tokenizer, messages, tools)
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def prompt_text(tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools = None) -> str:
    """What the template makes of a conversation for the assistant's next turn, special tokens included."""
    return _render(tokenizer, messages, tools, generation_prompt=True)


def after_prompt(conversation: Tokens, prompt: Sequence[int]) -> Tokens:
    """The conversation without loss on its prompt: not on what the assistant says within it."""
    # Compared, not counted: the first token of an answer may begin with the last character of the prompt.
    pairs = zip(prompt, conversation.ids, strict=False)
    start = next((place for place, (ours, theirs) in enumerate(pairs) if ours != theirs), len(prompt))
    return Tokens(conversation.ids, [IGNORED] * start + conversation.labels[start:])


def terminator(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that ends an assistant's turn.

    None if there is no template, or none in the template, or it refuses a plain exchange.
    """
    if tokenizer.chat_template is None:
        return None
    exchange = [{"role": "user", "content": "Yes?"}, {"role": "assistant", "content": "Yes."}]
    try:
        labels = tokenize_chat(tokenizer, exchange).labels
    except ChatRefusedError:
        return None
    learnt = (label for label in reversed(labels) if label != IGNORED)
    # White space after the terminator may be within the template's markers.
    last = next((label for label in learnt if str(tokenizer.decode([label])).strip()), None)
    return last if last in tokenizer.added_tokens_decoder else None


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer wherever the model is served, and the one that it learns to end its turns with."""
    own = model.generation_config.eos_token_id
    stops = own if isinstance(own, list) else [own]
    return sorted({token for token in (*stops, tokenizer.eos_token_id, terminator(tokenizer)) if token is not None})


def _whole(tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools) -> str:
    """A conversation as text. Raises ChatRefusedError where that leaves out a tool or a call of one: it would teach an
    empty answer."""
    text = _render(tokenizer, messages, tools)
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    # Counted, as a template may show the tools and not the calls.
    names = Counter(str(given.get("function", given).get("name")) for given in (*(tools or ()), *calls))
    for name, count in names.items():
        if text.count(name) < count:
            raise ChatRefusedError(
                f"the chat template leaves out the tool {name!r} of a conversation, or a call of it",
                "Give the model a template that renders tools and tool_calls, or take data without them.",
            )
    return text


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools, generation_prompt: bool = False
) -> str:
    if not messages:
        raise ChatRefusedError("a conversation, or what comes before its first answer, has no messages")
    apply: Any = tokenizer.apply_chat_template
    template = _template(tokenizer)
    try:
        text = apply(
            messages, tools=tools, chat_template=template, add_generation_prompt=generation_prompt, tokenize=False
        )
    except (jinja2.TemplateError, TypeError) as error:
        roles = ", ".join(str(message.get("role")) for message in messages)
        raise ChatRefusedError(f"the chat template refuses a conversation ({roles}): {error}") from error
    return str(text)


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    if tokenizer.chat_template is None:
        raise StepError(
            "the model has no chat template", "Use a chat model, or add a chat_template.jinja to its folder."
        )
    return without_today(tokenizer.get_chat_template())


def _turns(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools, text: str, since: int
) -> list[Span] | None:
    """The characters of `text` that each assistant turn is; None if beginnings of the conversation look otherwise."""
    turns = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or index < since:
            continue
        before = _render(tokenizer, messages[:index], tools, generation_prompt=True)
        through = text if index + 1 == len(messages) else _render(tokenizer, messages[: index + 1], tools)
        if not (through.startswith(before) and text.startswith(through)):
            return None
        turns.append((len(before), len(through)))
    return turns


def _within(
    turns: list[Span], text: str, ids: list[int], offsets: list[Span], tokenizer: PreTrainedTokenizerBase
) -> list[bool]:
    under_loss = [False] * len(ids)
    special = set(tokenizer.added_tokens_decoder)
    places = list(_places(offsets))
    for start, end in turns:
        inside = [index for index, place in enumerate(places) if place[0] < end and place[1] > start]
        last = next((index for index in reversed(inside) if text[slice(*places[index])].strip()), None)
        # What a template writes after the terminator, a line break mostly, is never generated. A turn that no special
        # token ends has only that to end it.
        ended = last is not None and ids[last] in special
        for index in inside:
            under_loss[index] = not ended or last is None or index <= last
        # Some templates, GLM's for one, end a turn with nothing but the token that begins the next one.
        after = inside[-1] + 1 if inside else len(ids)
        if not ended and after < len(ids) and ids[after] in special - {tokenizer.bos_token_id}:
            under_loss[after] = True
    return under_loss


def _places(offsets: list[Span]) -> Iterator[Span]:
    """The characters that each token covers: some tokenizers leave spaces before a word out of its offsets."""
    reached = 0
    for start, end in offsets:
        yield min(start, reached), end
        reached = max(reached, end)


def _marked(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools, ids: list[int], since: int
) -> list[bool]:
    apply: Any = tokenizer.apply_chat_template
    encoded = apply(messages, tools=tools, chat_template=_template(tokenizer), return_assistant_tokens_mask=True)
    under_loss = [bool(marked) for marked in encoded["assistant_masks"]]
    if since:
        _unmark(
            under_loss, [index >= since for index, message in enumerate(messages) if message["role"] == "assistant"]
        )
    special = set(tokenizer.added_tokens_decoder)
    terminators = {tokenizer.eos_token_id}
    if messages[-1]["role"] == "assistant":
        terminators.add(next((token for token in reversed(ids) if token in special), None))
    for index in range(1, len(ids)):
        # Many templates close the marked block before the terminator: a model trained so never learns to stop.
        unended = under_loss[index - 1] and not under_loss[index] and ids[index - 1] not in special
        if unended and ids[index] in terminators:
            under_loss[index] = True
    return under_loss


def _unmark(marked: list[bool], wanted: list[bool]) -> None:
    """Takes the marks from the assistant turns that are not wanted."""
    starts = [index for index, mark in enumerate(marked) if mark and not (index and marked[index - 1])]
    if len(starts) != len(wanted):
        raise TurnsUntoldError(
            f"the chat template's {{% generation %}} markers tell {len(starts)} turns of the assistant in a "
            f"conversation that has {len(wanted)}",
            "Put the markers around each of the assistant's turns, apart from each other.",
        )
    for start, keep in zip(starts, wanted, strict=True):
        index = start
        while not keep and index < len(marked) and marked[index]:
            marked[index] = False
            index += 1
