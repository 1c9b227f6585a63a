"""What every text of the demonstration is put together from: random draws, names, goods, rows of chats."""

import json
import random
from collections.abc import Sequence
from typing import Any, TypeVar

import words

T = TypeVar("T")
Message = dict[str, str]
Row = dict[str, Any]


def pick(rng: random.Random, options: Sequence[T]) -> T:
    # Of all that random.Random offers, only random() is promised to give the same numbers in every Python.
    return options[int(rng.random() * len(options))]


def shuffled(rng: random.Random, options: Sequence[T]) -> list[T]:
    keys = [rng.random() for _ in options]
    return [options[i] for i in sorted(range(len(options)), key=keys.__getitem__)]


def names(rng: random.Random, starts: Sequence[str], ends: Sequence[str]) -> list[str]:
    """Every start with every end, each name once, in random order."""
    # dict, not set: "Mar" + "ley" and "Marl" + "ey" are one name, and a set has no order to rely on.
    return shuffled(rng, list(dict.fromkeys(start + end for start in starts for end in ends if start.lower() != end)))


def goods(rng: random.Random) -> str:
    noun = pick(rng, words.GOODS)
    return f"{pick(rng, words.GOODS_ADJECTIVES)} {noun}" if rng.random() < 0.5 else noun


def quantity(rng: random.Random) -> int:
    return 2 + int(rng.random() * 98)


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def chat(question: str, answer: str) -> Row:
    return {"messages": [turn("user", question), turn("assistant", answer)]}
