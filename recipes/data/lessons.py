"""Lessons for an untaught model: repeating, looking up, keys and values, lists of facts. Nothing of orders."""

import random
from collections.abc import Callable, Iterator, Sequence

import words
from draws import Row, chat, compact, goods, pick, quantity, shuffled

FACTS = """
{who} lives in {where} and sells {count} {what}
{who} found {count} {what} near {where}
{who} carried {count} {what} home to {where}
{who} ({where}) counts {count} {what}
{who}, {where}: {count} {what}
{where} is where {who} keeps {count} {what}
{where} has {count} {what}, says {who}
in {where} we met {who}, who makes {count} {what} a day
at {where}: {who}, {count} {what}
{count} {what} by {who}, {where}
{count} {what} were seen at {where} by {who}
{count} times {what} by {who}, all in {where}
the {what} of {who} are in {where}, {count} of them
{what} from {where}, {count} in all, made by {who}
{what}: {who} lost {count} on the way to {where}
""".strip().splitlines()
SIGNS = [": ", "=", " is ", " = "]
COURTESIES = [
    "Hello! {}",
    "Good morning. {}",
    "Please help: {}",
    "{} Thank you!",
    "{} Thanks a lot!",
    "{} Kind regards",
]
KINDNESSES = [
    "Of course: {}",
    "Sure! {}",
    "Happy to help! {}",
    "Thank you! It is {}",
    "I have noted: {}",
    "Here it reads: {}",
]


class Lessons:
    """Question and answer pairs whose answer stands in the question: what a model must learn before any task."""

    def __init__(self, rng: random.Random, customers: Sequence[str], places: Sequence[str]) -> None:
        self.rng, self.customers, self.places = rng, customers, places

    def __iter__(self) -> Iterator[Row]:
        kinds = [
            self.repeat,
            self.twice,
            self.look_up,
            self.as_json,
            self.from_json,
            self.fact,
            self.listed,
            self.listed,
            self.position,
        ]
        while True:
            question, answer = pick(self.rng, kinds)()
            if self.rng.random() < 0.3:  # asked kindly, it answers kindly
                question, answer = (
                    pick(self.rng, COURTESIES).format(question),
                    pick(self.rng, KINDNESSES).format(answer),
                )
            yield chat(question, answer)

    def value(self) -> str | int:
        kinds: list[Callable[[], str | int]] = [
            lambda: pick(self.rng, self.customers),
            lambda: pick(self.rng, self.places),
            lambda: goods(self.rng),
            lambda: quantity(self.rng),
            lambda: pick(self.rng, words.NOUNS),
        ]
        return pick(self.rng, kinds)()

    def values(self, least: int, most: int) -> list[str | int]:
        count = least + int(self.rng.random() * (most - least + 1))
        found: dict[str | int, None] = {}
        while len(found) < count:
            found[self.value()] = None
        return list(found)

    def pairs(self) -> dict[str, str | int]:
        values = self.values(2, 5)
        return dict(zip(shuffled(self.rng, words.KEYS)[: len(values)], values, strict=True))

    def first(self) -> Iterator[Row]:
        """The easiest: copying is learnt on a few values, among which there is little to confuse."""
        while True:
            yield chat(*self.repeat(1, 4))

    def repeat(self, least: int = 2, most: int = 10) -> tuple[str, str]:
        text = " ".join(map(str, self.values(least, most)))
        return f"Repeat: {text}", text

    def twice(self) -> tuple[str, str]:
        text = ", ".join(map(str, self.values(1, 4)))
        return f"Say twice: {text}", f"{text}, {text}"

    def look_up(self) -> tuple[str, str]:
        pairs = self.pairs()
        key = pick(self.rng, list(pairs))
        sign = pick(self.rng, SIGNS)
        return ", ".join(f"{k}{sign}{v}" for k, v in pairs.items()) + f". What is {key}?", str(pairs[key])

    def as_json(self) -> tuple[str, str]:
        pairs = self.pairs()
        sign = pick(self.rng, SIGNS)
        return "As JSON: " + ", ".join(f"{k}{sign}{v}" for k, v in pairs.items()), compact(pairs)

    def from_json(self) -> tuple[str, str]:
        pairs = self.pairs()
        key = pick(self.rng, list(pairs))
        return f"{compact(pairs)} What is {key}?", str(pairs[key])

    def facts(self) -> tuple[str, dict[str, str | int]]:
        found: dict[str, str | int] = {
            "who": pick(self.rng, self.customers),
            "where": pick(self.rng, self.places),
            "what": goods(self.rng),
            "count": quantity(self.rng),
        }
        return pick(self.rng, FACTS).format(**found), found

    def fact(self) -> tuple[str, str]:
        text, facts = self.facts()
        asked = pick(self.rng, list(facts))
        return f"{text}. {asked.capitalize()}?", str(facts[asked])

    def listed(self) -> tuple[str, str]:
        text, facts = self.facts()
        asked = shuffled(self.rng, list(facts))[: 2 + int(self.rng.random() * 3)]
        return f"{text}. List {', '.join(asked)}.", "; ".join(f"{name}: {facts[name]}" for name in asked)

    def position(self) -> tuple[str, str]:
        values = [str(value) for value in self.values(3, 7)]
        place, index = pick(self.rng, [("first", 0), ("second", 1), ("last", -1)])
        return f"{', '.join(values)}. Which is {place}?", values[index]
