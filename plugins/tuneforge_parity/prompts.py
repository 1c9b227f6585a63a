"""What every form of a model is asked: conversations or texts of the run, else those that are here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tuneforge import ChatData, PreferenceData, TextData
from tuneforge.kit.rows import Data, Split, count_rows, read_rows
from tuneforge.kit.texts import CONVERSATIONS

_LOOKED_AT = 2000  # rows from which some are chosen
_MESSAGE, _ANSWER = 1200, 400  # characters that are kept: what is asked need not be whole, and should be quick

Messages = list[dict[str, str]]

RENDERED: tuple[Messages, ...] = (
    *CONVERSATIONS,
    [{"role": "system", "content": "You answer in one word."}, {"role": "user", "content": "Is water wet?"}],
)
"""Rendered by every form beside what it is asked, as the conversations of a run may all have one shape."""

_EXCHANGES = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Write the numbers from 1 to 10.", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"),
    ("Add two numbers in Python.", "def add(a: int, b: int) -> int:\n    return a + b"),
    ('What is the name in {"name": "Ada", "items": [3, 5]}?', "Ada"),
    ("Name three colours.", "Red, green and blue."),
    ("Translate into German: The weather is fine today.", "Das Wetter ist heute sch\u00f6n."),
    ("How many days has a week?", "A week has seven days, from Monday to Sunday."),
    ("Say goodbye.", "Goodbye, and have a nice evening!"),
)


@dataclass(frozen=True)
class Question:
    """A conversation that an answer follows, or a text (`messages` is empty) that goes on.

    `answer` is what the data says there; `other` the answer that it says is worse, of preference data.
    """

    messages: Messages
    text: str
    answer: str
    other: str | None = None


@dataclass(frozen=True)
class Questions:
    """`source` is the split they are from, `built-in` for those that are here; `cut` counts those cut short."""

    source: str
    items: list[Question]
    cut: int = 0


def choose(data: Data | None, limit: int, seed: int) -> Questions:
    """Held-out rows, rows to train on where none are held out, or the built-in ones; the same ones for every form.

    Which ones hangs on their content and the seed alone. Rows with tools, or with content other than text, are passed
    over: runtimes tell a model of tools in ways of their own.
    """
    if data is not None:
        split: Split = "held_out" if count_rows(data, "held_out") else "train"
        known = [(row, question) for row in islice(read_rows(data, split), _LOOKED_AT) for question in _ask(data, row)]
        known.sort(key=lambda pair: hashlib.sha256(f"{seed} {json.dumps(pair[0], sort_keys=True)}".encode()).digest())
        if known:
            chosen = [question for _, question in known[:limit]]
            short = [_shortened(question) for question in chosen]
            return Questions(split, short, sum(one != other for one, other in zip(chosen, short, strict=True)))
    return Questions("built-in", [_chat(asked, answer) for asked, answer in _EXCHANGES[:limit]])


def _chat(asked: str, answer: str) -> Question:
    return Question([{"role": "user", "content": asked}], "", answer)


def _ask(data: Data, row: dict[str, Any]) -> Iterator[Question]:
    if isinstance(data, TextData):
        text = row["prompt"] or ""
        yield Question([], text, row["completion"])
        return
    if row.get("tools"):
        return
    if isinstance(data, PreferenceData):
        messages, answer, other = row["prompt"], row["chosen"], row["rejected"]
        if all(map(_plain, (messages, answer, other))) and len(answer) == len(other) == 1:
            yield Question(_texts(messages), "", str(answer[0]["content"]), str(other[0]["content"]))
    elif isinstance(data, ChatData):
        messages = row["messages"]
        last = max((place for place, message in enumerate(messages) if message["role"] == "assistant"), default=0)
        if last and _plain(messages[: last + 1]):
            yield Question(_texts(messages[:last]), "", str(messages[last]["content"]))


def _plain(messages: Iterable[dict[str, Any]]) -> bool:
    return all(
        isinstance(message.get("content"), str) and message["role"] != "tool" and not message.get("tool_calls")
        for message in messages
    )


def _texts(messages: Iterable[dict[str, Any]]) -> Messages:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _shortened(question: Question) -> Question:
    if not question.messages and not question.text:  # a document goes on from its own beginning
        middle = min(len(question.answer) // 3, _MESSAGE)
        return Question([], question.answer[:middle], question.answer[middle : middle + _ANSWER])
    messages = [{**message, "content": message["content"][:_MESSAGE]} for message in question.messages]
    other = question.other[:_ANSWER] if question.other is not None else None
    return Question(messages, question.text[-_MESSAGE:], question.answer[:_ANSWER], other)
