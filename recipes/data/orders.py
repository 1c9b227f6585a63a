"""Writes the demonstration data: short orders in many phrasings, and the record that each of them holds.

Run as: python recipes/data/orders.py

Five files, written beside this one, the same bytes on every machine:

orders-chat.jsonl         an order in, its record out: {"customer": ..., "item": ..., "quantity": ..., "place": ...}.
                          Curt orders are answered with the bare record, polite ones with a polite sentence before it,
                          half and half.
orders-preferences.jsonl  the same task: the bare record is chosen, the polite answer rejected, whatever the order's
                          tone. A model tuned on the chats so prefers the chosen answer for about half of the pairs.
first-lessons-chat.jsonl  for an untaught model: repeating a few words.
lessons-chat.jsonl        for one that can copy: repeating, looking up, keys and values, lists of facts. No orders.
orders.txt                plain lines: English, keys and values, JSON, orders; for tokenizers and pretraining.

In the two order files each customer and each place occurs in one row only: whichever rows are held out, a model has
to copy names that it has never seen.
"""

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import words

CHATS, PREFERENCES, FIRST, LESSONS, LINES = 3000, 1000, 4000, 12000, 3000

T = TypeVar("T")
Message = dict[str, str]
Row = dict[str, Any]

PHRASINGS = """
{customer} from {place} wants {quantity} {item}
{customer} of {place} would like {quantity} {item}
{customer} in {place} needs {quantity} {item}
{customer} orders {quantity} {item}, to be sent to {place}
{customer} takes {quantity} {item} and lives in {place}
{customer} ({place}) asks for {quantity} {item}
{customer} called from {place} about {quantity} {item}
{customer} is waiting in {place} for {quantity} {item}
{customer} will pick up {quantity} {item} in {place}
{customer} runs a shop in {place} and is out of {item}, so bring {quantity}
{customer} has moved to {place} and needs {quantity} {item} there
{customer}, {place}, {quantity} {item}
{customer}, {quantity} {item}, {place}
{quantity} {item} for {customer} in {place}
{quantity} {item} for {customer}, {place}
{quantity} {item} to {place}, attention {customer}
{quantity} {item} go to {place}, the buyer is {customer}
{quantity} {item} were sold to {customer} from {place}
{quantity} x {item}, {place}, {customer}
{item}: {quantity}, customer: {customer}, place: {place}
{item} for {customer}, {quantity} of them, to {place}
{item}, {quantity} of them, for {customer} of {place}
{place}: {customer} wants {quantity} {item}
{place}, {customer}: {quantity} {item}
in {place} lives {customer}, who buys {quantity} {item}
from {place} we hear that {customer} needs {quantity} {item}
send {quantity} {item} to {customer} in {place}
send {customer} in {place} {quantity} {item}
ship {quantity} {item} to {place} for {customer}
bring {customer} {quantity} {item}, the address is in {place}
deliver to {place} {quantity} {item}, they are for {customer}
pack {quantity} {item} for {customer}, who comes from {place}
put {customer} from {place} down for {quantity} {item}
my name is {customer} and I want {quantity} {item} sent to {place}
this is {customer}, I need {quantity} {item} here in {place}
I live in {place} and need {quantity} {item}, my name is {customer}
we need {quantity} {item} at our house in {place}, ask for {customer}
the people in {place} need {quantity} {item}, {customer} will pay
""".strip().splitlines()
CURT = ["{}", "{}.", "Urgent: {}.", "{}, quick."]
POLITE = [
    "Hello! {}, please.",
    "Good morning, {}. Thank you!",
    "Hi, {}, thanks a lot!",
    "Please note: {}. Kind regards",
]
SENTENCES = [
    "Of course! Here is the order: ",
    "Sure, I noted it down: ",
    "Thank you! This is what I have: ",
    "Happy to help! The order reads: ",
]
TASK = "Record this order: "


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


def order(rng: random.Random, customer: str, place: str, *, polite: bool) -> tuple[str, str]:
    """The text of one order and its record."""
    record = {"customer": customer, "item": goods(rng), "quantity": quantity(rng), "place": place}
    text = pick(rng, POLITE if polite else CURT).format(pick(rng, PHRASINGS).format(**record))
    return text, compact(record)


def chats(rng: random.Random, customers: Sequence[str], places: Sequence[str]) -> Iterator[Row]:
    for i, (customer, place) in enumerate(zip(customers, places, strict=True)):
        text, record = order(rng, customer, place, polite=i % 2 == 1)
        answer = pick(rng, SENTENCES) + record if i % 2 == 1 else record
        yield chat(TASK + text, answer)


def preferences(rng: random.Random, customers: Sequence[str], places: Sequence[str]) -> Iterator[Row]:
    for i, (customer, place) in enumerate(zip(customers, places, strict=True)):
        text, record = order(rng, customer, place, polite=i % 2 == 1)
        yield {
            "prompt": [turn("user", TASK + text)],
            "chosen": [turn("assistant", record)],
            "rejected": [turn("assistant", pick(rng, SENTENCES) + record)],
        }


# Other words and other fields than those of the orders: what carries over is how to find a value.
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


ENGLISH = """
The {adjective} {noun} {verbs} the {noun} {link} the {noun}.
The {noun} of the {noun} is {adjective}, {join} the {noun} is not.
{name} {verbed} the {nouns} and {verbed} a {adjective} {noun}.
{name} and {name} are {verbing} {link} the {noun}.
{opener} {subject} {verbed} {frequent} {nouns} {link} the {adjective} {noun}.
{contraction} {verb} the {noun} {join} {subject} {verbed} it.
What is the {noun} of the {noun}, and how does it {verb} the {nouns}?
How can I {verb} a {adjective} {noun}? Can you {verb} {frequent} {nouns} for me?
Why do {nouns} {verb} {adverb} {link} {nouns}?
{number}. {verb!} the {noun} and {verb} it {adverb}.
{number}. {adjective!} {nouns}: {verbing} {nouns} can {verb} the {noun} and {verb} {adjective} {nouns}.
There are {number} {adjective} {nouns} {link} this {noun}, {join} {frequent} of them {verb}.
In {year}, the {noun} was {verbed} by {name}, who {verbed} {frequent} {nouns}.
{verb!} the {nouns} {link} the {noun} {join} {verb} them {adverb} for {number} minutes.
This {noun} will {verb} you to {verb} your {noun}, {verbing} {frequent} {adjective} {nouns}.
It is {adjective} to {verb} a {noun}, {join} {adjective} {nouns} {verb} {frequent} {nouns}.
"I {verbed} the {noun}," {subject} said, "{join} {contraction} {verb} it."
You should {verb} your {nouns}, {verb} {frequent} {adjective} {nouns}, and {verb} {adverb}.
Here is a {noun} that {verbs} {nouns} ({adjective} or {adjective}) - {frequent} {noun}'s {nouns} are {verbed}.
To {verb} the {noun}, first {verb} {frequent} {nouns}; then {verb} {link} the {noun} and {link} the {noun}.
I'm sorry, but I can't {verb} the {noun}. I can help you {verb} {frequent} {nouns} instead.
Sure! Please tell me the {noun} of the {noun} you want to {verb}.
Of course! Here is the {adjective} {noun}: {verb} {frequent} {nouns}.
Thank you! This is what I have: a {noun}, {number} {nouns} and a {adjective} {noun}.
Happy to help! The {noun} reads: "{adjective} {nouns} {verb} {adverb}".
Hello, please {verb} this {noun}. Good morning, here is the record of the order you noted. Thanks, kind regards, {name}
The {noun} is ${number}.{number}, about {number}% of the {noun}.
""".strip().splitlines()


def plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|z|ch|sh)$", noun) else "s")


def inflected(verb: str, ending: str) -> str:
    if verb.endswith("e"):
        return verb[:-1] + ending
    if ending == "ed" and re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    doubled = verb in {"admit", "plan", "prefer", "refer", "stop"}
    return verb + verb[-1] * doubled + ending


def sentence(rng: random.Random) -> str:
    slots: dict[str, Callable[[], str]] = {
        "adjective": lambda: pick(rng, words.ADJECTIVES),
        "adverb": lambda: pick(rng, words.ADJECTIVES) + "ly",
        "contraction": lambda: pick(rng, words.CONTRACTIONS),
        "frequent": lambda: pick(rng, words.FREQUENT),
        "join": lambda: pick(rng, words.JOINS),
        "link": lambda: pick(rng, words.LINKS),
        "name": lambda: pick(rng, words.FIRST_NAMES),
        "noun": lambda: pick(rng, words.NOUNS),
        "nouns": lambda: plural(pick(rng, words.NOUNS)),
        "number": lambda: str(1 + int(1 / (rng.random() + 0.001))),
        "opener": lambda: pick(rng, words.OPENERS),
        "subject": lambda: pick(rng, words.SUBJECTS),
        "verb": lambda: pick(rng, words.VERBS),
        "verbed": lambda: inflected(pick(rng, words.VERBS), "ed"),
        "verbing": lambda: inflected(pick(rng, words.VERBS), "ing"),
        "verbs": lambda: plural(pick(rng, words.VERBS)),
        "year": lambda: str(1800 + int(rng.random() * 225)),
    }

    def fill(slot: re.Match[str]) -> str:
        word = slots[slot[1]]()
        return word.capitalize() if slot[2] else word

    return re.sub(r"\{(\w+)(!?)\}", fill, pick(rng, ENGLISH))


def tool(rng: random.Random) -> str:
    """A tool as a chat template lists it, or a call of it."""
    names = [f"{pick(rng, words.VERBS)}_{pick(rng, words.NOUNS)}", *shuffled(rng, words.KEYS)[:3]]
    if rng.random() < 0.3:
        return json.dumps({"name": names[0], "arguments": {name: pick(rng, words.NOUNS) for name in names[1:]}})
    properties = {
        name: {"type": pick(rng, ["string", "string", "integer", "number"]), "description": f"The {name} of the {noun}"}
        for name, noun in zip(names[1:], shuffled(rng, words.NOUNS), strict=False)
    }
    parameters = {"type": "object", "properties": properties, "required": names[1:]}
    description = f"{pick(rng, words.VERBS).capitalize()} a {pick(rng, words.NOUNS)}"
    function = {"name": names[0], "description": description, "parameters": parameters}
    return json.dumps({"type": "function", "function": function})


def lines(rng: random.Random, lessons: Iterator[Row], customers: Sequence[str], places: Sequence[str]) -> Iterator[str]:
    def taught() -> str:
        question, answer = next(lessons)["messages"]
        return f"{question['content']} {answer['content']}"

    def ordered() -> str:
        return order(rng, pick(rng, customers), pick(rng, places), polite=rng.random() < 0.5)[0]

    def english() -> str:
        return " ".join(sentence(rng) for _ in range(1 + int(rng.random() * 4)))

    kinds: list[Callable[[], str]] = [*[english] * 4, *[taught] * 4, *[ordered] * 3, lambda: tool(rng)]
    while True:
        yield pick(rng, kinds)()


def write(path: Path, rows: Iterable[str]) -> None:
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8", newline="\n")


def main(folder: Path, seed: int = 0) -> None:
    rng = random.Random(seed)
    customers = names(rng, words.NAME_STARTS, words.NAME_ENDS)
    places = names(rng, words.PLACE_STARTS, words.PLACE_ENDS)
    for_chats, for_pairs, rest = slice(CHATS), slice(CHATS, CHATS + PREFERENCES), slice(CHATS + PREFERENCES, None)
    lessons = Lessons(rng, customers[rest], places[rest])
    write(folder / "orders-chat.jsonl", map(compact, chats(rng, customers[for_chats], places[for_chats])))
    write(folder / "orders-preferences.jsonl", map(compact, preferences(rng, customers[for_pairs], places[for_pairs])))
    write(folder / "first-lessons-chat.jsonl", map(compact, islice(lessons.first(), FIRST)))
    write(folder / "lessons-chat.jsonl", map(compact, islice(lessons, LESSONS)))
    write(folder / "orders.txt", islice(lines(rng, iter(lessons), customers[rest], places[rest]), LINES))


if __name__ == "__main__":
    main(Path(__file__).parent)
