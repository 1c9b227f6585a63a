"""Plain English sentences, and tools as chat templates list them, so that a tokenizer is of some use elsewhere too."""

import json
import random
import re
from collections.abc import Callable

import words
from draws import pick, shuffled

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
