"""Writes two tasks that can be learnt beside each other, by two models that are then merged: orders and moves.

Run as: python recipes/data/skills.py

Into the folder skills beside this file, the same bytes on every machine:

chores.jsonl                 six small tasks, each with a beginning and fields of its own. A model that knows them knows
                             that it is the beginning that tells what to answer.
orders/orders.jsonl          an order in, its record out: customer, item, quantity, place.
moves/moves.jsonl            a note of a move in, its record out: from, goods, amount, to. Which of two places is which
                             has to be read.
orders/ and moves/chores.jsonl  other chores, to be practised on beside the task: a model that sees nothing but orders
                             comes to answer everything with one, and so would its merge with another.

All answers are bare records. Each customer and each place of orders and moves occurs in one row only: whichever rows
are held out, a model has to copy names that no other row has.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import words
from draws import Row, chat, compact, goods, names, pick, quantity
from lessons import Lessons
from orders import TASK, order, write

ROWS, CHORES, BESIDE = 1200, 2400, 600

MOVES = """
{amount} {goods} from {from} to {to}
{amount} {goods} go from {from} to {to}
{amount} {goods} go to {to} from {from}
{amount} {goods} are brought to {to} from {from}
{amount} {goods} were sent from {from} to {to}
{amount} x {goods}, from {from}, to {to}
{goods}: {amount}, from {from}, to {to}
{goods} from {from}, {amount} of them, to {to}
{goods} to {to}, {amount} of them, from {from}
from {from} to {to}: {amount} {goods}
from {from} to {to} go {amount} {goods}
from {from} we take {amount} {goods} to {to}
to {to} from {from}: {amount} {goods}
to {to} go {amount} {goods} from {from}
{to} gets {amount} {goods} from {from}
{from} sends {amount} {goods} to {to}
take {amount} {goods} from {from} to {to}
carry {amount} {goods} to {to}, they come from {from}
""".strip().splitlines()
TONES = ["{}", "{}.", "{}, today.", "Please note, {}.", "Hello! {}. Thank you!"]
MOVE = "Log this move: "

# Of each chore, which of the facts of a lesson stands in which field.
FIELDS = {
    "Report this find: ": {"name": "who", "location": "where", "object": "what", "number": "count"},
    "Keep this note: ": {"content": "what", "total": "count", "user": "who", "city": "where"},
    "Tell the stock: ": {"target": "where", "type": "what", "id": "who", "size": "count"},
    "File this visit: ": {"title": "who", "country": "where", "value": "count", "category": "what"},
    "Book this stay: ": {"units": "count", "role": "who", "tags": "what", "address": "where"},
    "List this offer: ": {"format": "what", "email": "who", "price": "count", "source": "where"},
}


def orders(rng: random.Random, customers: Sequence[str], places: Sequence[str]) -> Iterator[Row]:
    for i, (customer, place) in enumerate(zip(customers, places, strict=True)):
        text, record = order(rng, customer, place, polite=i % 2 == 1)
        yield chat(TASK + text, record)


def moves(rng: random.Random, places: Sequence[str]) -> Iterator[Row]:
    for start, end in zip(places[::2], places[1::2], strict=True):
        record = {"from": start, "goods": goods(rng), "amount": quantity(rng), "to": end}
        text = pick(rng, TONES).format(pick(rng, MOVES).format(**record))
        yield chat(MOVE + text, compact(record))


def chores(rng: random.Random, lessons: Lessons) -> Iterator[Row]:
    while True:
        beginning = pick(rng, list(FIELDS))
        text, facts = lessons.facts()
        record = {field: facts[fact] for field, fact in FIELDS[beginning].items()}
        yield chat(beginning + pick(rng, TONES).format(text), compact(record))


def main(folder: Path, seed: int = 1) -> None:
    rng = random.Random(seed)
    customers = names(rng, words.NAME_STARTS, words.NAME_ENDS)
    places = names(rng, words.PLACE_STARTS, words.PLACE_ENDS)
    practice = chores(rng, Lessons(rng, customers[ROWS:], places[3 * ROWS :]))
    files = {
        "orders/orders": orders(rng, customers[:ROWS], places[:ROWS]),
        "moves/moves": moves(rng, places[ROWS : 3 * ROWS]),
        "chores": islice(practice, CHORES),
        "orders/chores": islice(practice, BESIDE),
        "moves/chores": islice(practice, BESIDE),
    }
    for name, rows in files.items():
        path = folder / "skills" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, map(compact, rows))


if __name__ == "__main__":
    main(Path(__file__).parent)
