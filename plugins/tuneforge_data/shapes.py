"""The shapes that rows come in: told by their columns, each converted into a chat, preference, feedback or text row."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .messages import LeftOutError, Message, check_turns, from_json, read_messages, read_text, read_tools, with_system

Row = dict[str, Any]

NO_SHAPE = "columns of no known shape"


@dataclass(frozen=True)
class Shape:
    """A way to write a row: its columns, and what it becomes, given a default system prompt."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    convert: Callable[[Mapping[str, Any], str | None], Row]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.required + self.optional

    def fits(self, columns: Container[str]) -> bool:
        return all(name in columns for name in self.required)


@dataclass(frozen=True)
class Recogniser:
    """Tells the shape of a row, after renaming (ours: theirs) its columns, and converts it."""

    shapes: Sequence[Shape]
    renames: Mapping[str, str]
    system: str | None = None

    def __call__(self, row: object) -> tuple[str, Row]:
        """The name of the row's shape, and what it becomes. Raises LeftOutError if it cannot be used."""
        if isinstance(row, LeftOutError):
            raise row
        if not isinstance(row, Mapping):
            raise LeftOutError("not an object")
        # A column that was given another name is not read under its own one, too: it could be the answer.
        columns = {name: value for name, value in row.items() if name not in self.renames.values()}
        columns |= {ours: row[theirs] for ours, theirs in self.renames.items() if theirs in row}
        # Parquet files made of several data sets have the columns of all in every row, null where they are another's.
        given = {name: value for name, value in columns.items() if value is not None}
        for known in (given, columns):
            for shape in self.shapes:
                if shape.fits(known):
                    return shape.name, shape.convert(columns, self.system)
        raise LeftOutError(NO_SHAPE)


def _chat(messages: list[Message], row: Mapping[str, Any], system: str | None) -> Row:
    messages = with_system(messages, row.get("system"), system)
    check_turns(messages)
    return {"messages": messages, "tools": read_tools(row.get("tools"))}


def _messages(row: Mapping[str, Any], system: str | None) -> Row:
    return _chat(read_messages(row["messages"]), row, system)


def _sharegpt(row: Mapping[str, Any], system: str | None) -> Row:
    return _chat(read_messages(row["conversations"]), row, system)


def _alpaca(row: Mapping[str, Any], system: str | None) -> Row:
    return _chat([*read_instruction(row), {"role": "assistant", "content": read_text(row["output"])}], row, system)


def _completion(row: Mapping[str, Any], system: str | None) -> Row:
    prompt, answer = read_messages(row["prompt"], "user"), read_messages(row["completion"], "assistant")
    return _chat([*prompt, *answer], row, system)


def read_instruction(row: Mapping[str, Any]) -> list[Message]:
    """Alpaca's prompt: earlier (prompt, answer) pairs, then the instruction and, on a new line, what it is about."""
    history = from_json(row.get("history") or [], "history is not a list of pairs")
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise LeftOutError("history is not a list of pairs")
    texts = [text for prompt, answer in history for text in (prompt, answer)]
    parts = (read_text(row["instruction"]), read_text(row.get("input")))
    texts.append("\n".join(part for part in parts if part.strip()))
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": read_text(text)} for index, text in enumerate(texts)]


def _pair(
    prompt: list[Message], chosen: list[Message], rejected: list[Message], row: Mapping[str, Any], system: str | None
) -> Row:
    if not prompt:
        raise LeftOutError("empty prompt")
    prompt = with_system(prompt, row.get("system"), system)
    if chosen == rejected:
        raise LeftOutError("chosen equals rejected")
    for answer in (chosen, rejected):
        if not answer:
            raise LeftOutError("empty answer")
        if answer[0]["role"] != "assistant":
            raise LeftOutError("turns out of order")
        check_turns([*prompt, *answer])
    tools, margin = read_tools(row.get("tools")), _margin(row.get("margin"))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": tools, "margin": margin}


def _margin(value: object) -> float | None:
    """By how much the chosen answer is the better one; CSV has it as text."""
    if value is None or value == "":
        return None
    try:
        margin = float(value) if isinstance(value, (int, float, str)) else math.nan
    except ValueError:
        margin = math.nan
    if not math.isfinite(margin):
        raise LeftOutError("margin is not a number")
    return margin


def _explicit(row: Mapping[str, Any], system: str | None) -> Row:
    chosen, rejected = read_messages(row["chosen"], "assistant"), read_messages(row["rejected"], "assistant")
    if _whole(chosen) and _whole(rejected):
        return _split(chosen, rejected, row, system)
    return _pair(read_messages(row["prompt"], "user"), chosen, rejected, row, system)


def _sharegpt_pair(row: Mapping[str, Any], system: str | None) -> Row:
    chosen, rejected = read_messages(row["chosen"], "assistant"), read_messages(row["rejected"], "assistant")
    return _pair(read_messages(row["conversations"]), chosen, rejected, row, system)


def _alpaca_pair(row: Mapping[str, Any], system: str | None) -> Row:
    chosen, rejected = read_messages(row["chosen"], "assistant"), read_messages(row["rejected"], "assistant")
    return _pair(read_instruction(row), chosen, rejected, row, system)


def _implicit(row: Mapping[str, Any], system: str | None) -> Row:
    if any(isinstance(row[answer], str) and not row[answer].startswith("[") for answer in ("chosen", "rejected")):
        raise LeftOutError(NO_SHAPE)  # answers alone, whose prompt is in a column of another name
    return _split(read_messages(row["chosen"]), read_messages(row["rejected"]), row, system)


def _whole(messages: list[Message]) -> bool:
    """Whether this is a conversation from its beginning, and not an answer alone."""
    return bool(messages) and messages[0]["role"] in ("system", "user")


def _split(chosen: list[Message], rejected: list[Message], row: Mapping[str, Any], system: str | None) -> Row:
    """Two whole conversations: their prompt is what they share, up to the last place where both have an answer next."""
    if chosen == rejected:
        raise LeftOutError("chosen equals rejected")
    pairs = list(zip(chosen, rejected, strict=False))
    shared = next((index for index, (one, other) in enumerate(pairs) if one != other), len(pairs))
    while shared and not (shared < len(pairs) and pairs[shared][0]["role"] == pairs[shared][1]["role"] == "assistant"):
        shared -= 1
    if not shared:
        raise LeftOutError("chosen and rejected share no prompt")
    return _pair(chosen[:shared], chosen[shared:], rejected[shared:], row, system)


def _judged(messages: list[Message], row: Mapping[str, Any], system: str | None, turns: int = 1) -> Row:
    """A conversation whose last turns were judged, and the verdict."""
    messages = with_system(messages, row.get("system"), system)
    check_turns(messages)
    if messages[-turns]["role"] != "assistant":
        raise LeftOutError("turns out of order")
    verdict = row.get("label") if row.get("label") is not None else row.get("kto_tag")
    return {
        "prompt": messages[:-turns],
        "answer": messages[-turns:],
        "label": _label(verdict),
        "tools": read_tools(row.get("tools")),
    }


def _label(value: object) -> bool:
    """A thumb up or down; CSV has it as text."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word in (True, "true", "1"):  # 1 equals True
        return True
    if word in (False, "false", "0"):
        return False
    raise LeftOutError("label is neither true nor false")


def _judged_messages(row: Mapping[str, Any], system: str | None) -> Row:
    return _judged(read_messages(row["messages"]), row, system)


def _judged_sharegpt(row: Mapping[str, Any], system: str | None) -> Row:
    return _judged(read_messages(row["conversations"]), row, system)


def _judged_completion(row: Mapping[str, Any], system: str | None) -> Row:
    prompt, answer = read_messages(row["prompt"], "user"), read_messages(row["completion"], "assistant")
    if not answer:
        raise LeftOutError("empty answer")
    return _judged([*prompt, *answer], row, system, len(answer))


def _judged_alpaca(row: Mapping[str, Any], system: str | None) -> Row:
    answer = {"role": "assistant", "content": read_text(row["output"])}
    return _judged([*read_instruction(row), answer], row, system)


def _text(row: Mapping[str, Any], system: str | None) -> Row:
    return {"prompt": None, "completion": _not_empty(row["text"], "text")}


def _prompted(row: Mapping[str, Any], system: str | None) -> Row:
    return {name: _not_empty(row[name], name) for name in ("prompt", "completion")}


def _not_empty(value: object, name: str) -> str:
    if value is not None and not isinstance(value, str):
        raise LeftOutError(f"{name} is not text")
    if not value or not value.strip():
        raise LeftOutError(f"empty {name}")
    return value


CHAT_SHAPES = (
    Shape("messages", ("messages",), ("system", "tools"), _messages),
    Shape("sharegpt", ("conversations",), ("system", "tools"), _sharegpt),
    Shape("alpaca", ("instruction", "output"), ("input", "history", "system", "tools"), _alpaca),
    Shape("completion", ("prompt", "completion"), ("system", "tools"), _completion),
)
"""Those of `format: chat`, the first that fits being taken."""

_ASIDE = ("system", "tools", "margin")

PREFERENCE_SHAPES = (
    Shape("sharegpt", ("conversations", "chosen", "rejected"), _ASIDE, _sharegpt_pair),
    Shape("explicit", ("prompt", "chosen", "rejected"), _ASIDE, _explicit),
    Shape("alpaca", ("instruction", "chosen", "rejected"), ("input", "history", *_ASIDE), _alpaca_pair),
    Shape("implicit", ("chosen", "rejected"), _ASIDE, _implicit),
)
"""Those of `format: preference`, the first that fits being taken."""

TEXT_SHAPES = (
    Shape("text", ("text",), (), _text),
    Shape("completion", ("prompt", "completion"), (), _prompted),
)
"""Those of `format: completion`, the first that fits being taken."""

FEEDBACK_SHAPES = tuple(
    Shape(name, (*required, label), (*optional, "system", "tools"), convert)
    for name, required, optional, convert in (
        ("messages", ("messages",), (), _judged_messages),
        ("sharegpt", ("conversations",), (), _judged_sharegpt),
        ("completion", ("prompt", "completion"), (), _judged_completion),
        ("alpaca", ("instruction", "output"), ("input", "history"), _judged_alpaca),
    )
    for label in ("label", "kto_tag")
)
"""Those of `format: feedback`, the first that fits being taken."""
