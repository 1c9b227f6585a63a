"""Writes the demonstration data: short orders in many phrasings, and the record that each of them holds.

Run as: python recipes/data/orders.py

Six files, written beside this one, the same bytes on every machine:

orders-chat.jsonl         an order in, its record out: {"customer": ..., "item": ..., "quantity": ..., "place": ...}.
                          Curt orders are answered with the bare record, polite ones with a polite sentence before it,
                          half and half.
orders-preferences.jsonl  the same task: the bare record is chosen, the polite answer rejected, whatever the order's
                          tone. A model tuned on the chats so prefers the chosen answer for about half of the pairs.
orders-feedback.jsonl     single answers to such orders: a bare record has the label true, a polite answer false.
first-lessons-chat.jsonl  for an untaught model: repeating a few words.
lessons-chat.jsonl        for one that can copy: repeating, looking up, keys and values, lists of facts. No orders.
orders.txt                plain lines: English, keys and values, JSON, orders; for tokenizers and pretraining.

In the chats and preferences each customer and each place occurs in one row only: whichever rows are held out, a model
has to copy names that it has never seen.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import words
from draws import Row, chat, compact, goods, names, pick, quantity, turn
from english import sentence, tool
from lessons import Lessons

CHATS, PREFERENCES, FIRST, LESSONS, LINES = 3000, 1000, 4000, 12000, 3000

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


def feedback(rng: random.Random, customers: Sequence[str], places: Sequence[str]) -> Iterator[Row]:
    for i, (customer, place) in enumerate(zip(customers, places, strict=True)):
        text, record = order(rng, customer, place, polite=i % 2 == 1)
        bare = i % 4 < 2
        answer = record if bare else pick(rng, SENTENCES) + record
        yield {**chat(TASK + text, answer), "label": bare}


# Other words and other fields than those of the orders: what carries over is how to find a value.


def lines(rng: random.Random, lessons: Iterator[Row], customers: Sequence[str], places: Sequence[str]) -> Iterator[str]:
    def taught() -> str:
        question, answer = next(lessons)["messages"]
        return f"{question['content']} {answer['content']}"

    def ordered() -> str:
        return order(rng, pick(rng, customers), pick(rng, places), polite=rng.random() < 0.5)[0]

    def plain() -> str:
        return " ".join(sentence(rng) for _ in range(1 + int(rng.random() * 4)))

    kinds: list[Callable[[], str]] = [*[plain] * 4, *[taught] * 4, *[ordered] * 3, lambda: tool(rng)]
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
    # Drawn apart, so that the other files stay as they are.
    judged = feedback(random.Random(f"feedback {seed}"), customers[for_pairs], places[for_pairs])
    write(folder / "orders-feedback.jsonl", map(compact, judged))
    write(folder / "first-lessons-chat.jsonl", map(compact, islice(lessons.first(), FIRST)))
    write(folder / "lessons-chat.jsonl", map(compact, islice(lessons, LESSONS)))
    write(folder / "orders.txt", islice(lines(rng, iter(lessons), customers[rest], places[rest]), LINES))


if __name__ == "__main__":
    main(Path(__file__).parent)
