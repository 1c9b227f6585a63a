"""The shapes that prompts come in: every shape of a conversation or a preference pair, and prompts alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .messages import LeftOutError, Message, check_turns, read_messages, read_text, read_tools, with_system
from .shapes import CHAT_SHAPES, PREFERENCE_SHAPES, Row, Shape, read_instruction

Convert = Callable[[Mapping[str, Any], str | None], Row]

_ASIDE = ("reference", "system", "tools")
_ANY_ANSWER: Message = {"role": "assistant", "content": "..."}


def asked(messages: list[Message], row: Mapping[str, Any], system: str | None) -> Row:
    """A prompt row: what comes before the assistant's turn at the end, if there is one, and that turn as reference.

    A column `reference` stands in place of that turn. A conversation that ends otherwise is a prompt as a whole.
    """
    messages = with_system(messages, row.get("system"), system)
    answer = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
    prompt = messages[:-1] if answer else messages
    if not prompt:
        raise LeftOutError("empty prompt")
    check_turns([*prompt, _ANY_ANSWER])
    given = read_reference(row.get("reference"))
    if given is None and answer:
        given = _written(answer)
    return {"prompt": prompt, "reference": given, "tools": read_tools(row.get("tools"))}


def read_reference(value: object) -> str | None:
    """What an answer is compared with, as text: of a number or a record, what JSON makes of it; None for nothing."""
    if value is None or isinstance(value, str):
        return value if value and value.strip() else None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _written(answer: Message) -> str | None:
    """A turn as text; the calls of tools in it as JSON, as most models write them: an object, or a list of several."""
    calls = [call["function"] for call in answer.get("tool_calls", ())]
    told = read_reference(calls[0] if len(calls) == 1 else calls or None)
    return read_reference("\n".join(text for text in (answer["content"], told) if text))


def _messages(row: Mapping[str, Any], system: str | None) -> Row:
    return asked(read_messages(row["messages"]), row, system)


def _sharegpt(row: Mapping[str, Any], system: str | None) -> Row:
    return asked(read_messages(row["conversations"]), row, system)


def _alpaca(row: Mapping[str, Any], system: str | None) -> Row:
    answer = {"role": "assistant", "content": read_text(row.get("output"))}
    return asked([*read_instruction(row), answer], row, system)


def _completion(row: Mapping[str, Any], system: str | None) -> Row:
    prompt, answer = read_messages(row["prompt"], "user"), read_messages(row["completion"], "assistant")
    return asked([*prompt, *answer], row, system)


def _prompts(row: Mapping[str, Any], system: str | None) -> Row:
    return asked(read_messages(row["prompt"], "user"), row, system)


def _better(convert: Convert) -> Convert:
    """The better answer of a pair is the reference."""

    def of_pair(row: Mapping[str, Any], system: str | None) -> Row:
        pair = convert(row, system)
        return asked([*pair["prompt"], *pair["chosen"]], row, None)

    return of_pair


_OF_CHATS: Mapping[str, Convert] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "completion": _completion,
}

PROMPT_SHAPES = (
    *(Shape(pair.name, pair.required, (*pair.optional, "reference"), _better(pair.convert)) for pair in PREFERENCE_SHAPES),
    *(Shape(chat.name, chat.required, (*chat.optional, "reference"), _OF_CHATS[chat.name]) for chat in CHAT_SHAPES),
    Shape("prompts", ("prompt",), _ASIDE, _prompts),
)
"""Those of `format: prompts`, the first that fits being taken."""
