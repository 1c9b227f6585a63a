"""Models' answers to the same prompts: which rows to show, and what in them differs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from .texts import all_shown, as_text, cut, shown

_READ = 2 << 20  # bytes of answers that are looked at for rows to show
_SHOWN = 8
_LONG = 2000  # characters of a text that are shown
_COMPARED = 1200  # characters that are compared: the time goes with the square
_PIECE = re.compile(r"\w+|\s+|.", re.DOTALL)

Turn = Literal["gained", "lost", "differs", "kept", "never"]
TURNS: dict[Turn, str] = {
    "gained": "became right",
    "lost": "became wrong",
    "kept": "stayed right",
    "differs": "wrong, answers differ",
    "never": "wrong, all alike",
}
_ALONE: dict[Turn, str] = {"kept": "right", "never": "wrong"}
"""The same of one model alone."""


@dataclass(frozen=True)
class Piece:
    """A part of an answer: `same` as expected, `extra` where other words were, `missing` where some should be."""

    text: str
    kind: Literal["same", "extra", "missing"] = "same"


@dataclass(frozen=True)
class Answer:
    """What one or several models answered alike. `right` is None where nothing was expected."""

    models: tuple[str, ...]
    pieces: tuple[Piece, ...]
    right: bool | None


@dataclass(frozen=True)
class Exercise:
    """A prompt as (role, text), what was expected, and the answers. `number` counts the rows from 1."""

    number: int
    prompt: tuple[tuple[str, str], ...]
    expected: str | None
    answers: tuple[Answer, ...]
    turn: str


@dataclass(frozen=True)
class Sheet:
    """The answers of an evaluation: `rows` in all, of which `seen` were looked at and some are shown.

    `turns` counts the rows seen by what became of them between the first and the last model, in words; `right` counts
    the right answers by model.
    """

    step: str
    models: tuple[str, ...]
    rows: int
    seen: int
    right: Mapping[str, int]
    turns: Mapping[str, int]
    exercises: tuple[Exercise, ...] = field(repr=False)


def read_answers(path: Path, step: str, names: Mapping[str, str]) -> Sheet | None:
    """The answers in an answers.jsonl: a line a row with `prompt`, `expected` and `answers` by digest.

    `right` by digest, where it is told, says which answers are; else those are that equal the expected one.
    """
    if not path.exists():
        return None
    seen: list[tuple[Turn | None, dict[str, Any]]] = []
    right: Counter[str] = Counter()
    rows = 0
    with path.open("rb") as file:
        for line in file:
            rows += 1
            if file.tell() > _READ:
                rows += sum(1 for _ in file)
                break
            row = _row(line)
            if row is not None:
                seen.append((_turn(row), row))
                right.update(digest for digest in row["answers"] if _is_right(row, digest))
    if not seen:
        return None
    digests = list(dict.fromkeys(digest for _, row in seen for digest in row["answers"]))
    called = {digest: names.get(digest, shown(digest[:12])) for digest in digests}
    turns = Counter(turn for turn, _ in seen if turn)
    said = TURNS if len(digests) > 1 else _ALONE
    exercises = tuple(
        _exercise(number + 1, said[turn] if turn else "", all_shown(row), called)
        for number, (turn, row) in ((number, seen[number]) for number in _chosen(seen))
    )
    told = any(row["expected"] is not None for _, row in seen)
    return Sheet(
        step,
        tuple(called.values()),
        rows,
        len(seen),
        {called[digest]: right[digest] for digest in digests} if told else {},
        {words: turns[turn] for turn, words in said.items() if turns[turn]},
        exercises,
    )


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("answers"), dict) or not row["answers"]:
        return None
    expected = row.get("expected")
    return {
        "prompt": row.get("prompt"),
        "expected": None if expected is None else as_text(expected),
        "answers": {str(digest): as_text(answer) for digest, answer in row["answers"].items()},
        "right": row["right"] if isinstance(row.get("right"), dict) else {},
    }


def _is_right(row: Mapping[str, Any], digest: str) -> bool:
    if row["expected"] is None:
        return False
    return bool(row["right"].get(digest, row["answers"][digest].strip() == row["expected"].strip()))


def _turn(row: Mapping[str, Any]) -> Turn | None:
    digests = list(row["answers"])
    if row["expected"] is None:
        return None
    before, after = _is_right(row, digests[0]), _is_right(row, digests[-1])
    if before or after:
        return "kept" if before and after else "gained" if after else "lost"
    return "differs" if len({answer.strip() for answer in row["answers"].values()}) > 1 else "never"


def _chosen(seen: Sequence[tuple[Turn | None, Mapping[str, Any]]]) -> list[int]:
    """A mix to be shown: of each turn in its turn, and of each those first in which the models differ most."""
    order: list[Turn | None] = ["gained", "lost", "differs", "kept", "never", None]
    heaps = []
    for turn in order:
        numbers = [number for number, (at, _) in enumerate(seen) if at == turn]
        heaps.append(sorted(numbers, key=lambda number: -len(set(seen[number][1]["answers"].values()))))
    chosen: list[int] = []
    while any(heaps) and len(chosen) < _SHOWN:
        chosen.extend(heap.pop(0) for heap in heaps if heap)
    return chosen[:_SHOWN]


def _exercise(number: int, turn: str, row: Mapping[str, Any], called: Mapping[str, str]) -> Exercise:
    alike: dict[tuple[str, bool], list[str]] = {}
    for digest, answer in row["answers"].items():
        alike.setdefault((answer.strip(), _is_right(row, digest)), []).append(called.get(digest, digest[:12]))
    expected = row["expected"].strip() if row["expected"] is not None else None
    answers = tuple(
        Answer(tuple(models), _compared(answer, expected), None if expected is None else right)
        for (answer, right), models in alike.items()
    )
    prompt = tuple(_messages(row["prompt"]))
    return Exercise(number, prompt, None if expected is None else cut(expected, _LONG), answers, turn)


def _messages(prompt: Any) -> Iterator[tuple[str, str]]:
    for message in prompt if isinstance(prompt, list) else [prompt]:
        if isinstance(message, dict):
            said = message.get("content")
            rest = {name: value for name, value in message.items() if name not in ("role", "content") and value}
            texts = [as_text(part) for part in (said, rest or None) if part not in (None, "")]
            yield as_text(message.get("role", "")), cut("\n".join(texts), _LONG)
        elif message is not None:
            yield "", cut(as_text(message), _LONG)


def _compared(answer: str, expected: str | None) -> tuple[Piece, ...]:
    """An answer in pieces, by words, against what was expected; as a whole where the two have little in common."""
    if expected is None or answer == expected or max(len(answer), len(expected)) > _COMPARED:
        return (Piece(cut(answer, _LONG)),)
    found, wanted = _PIECE.findall(answer), _PIECE.findall(expected)
    matcher = SequenceMatcher(None, wanted, found, autojunk=False)
    if matcher.ratio() < 0.4:
        return (Piece(answer, "extra"),) if answer else ()
    pieces = []
    for tag, start, end, at, to in matcher.get_opcodes():
        if at < to:
            pieces.append(Piece("".join(found[at:to]), "same" if tag == "equal" else "extra"))
        elif start < end:
            pieces.append(Piece("".join(wanted[start:end]), "missing"))
    return tuple(pieces)
