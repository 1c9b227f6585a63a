"""Writes two tasks that a model can learn beside each other, or from a merge of two models: orders and moves.

Run as: python recipes/data/skills.py

Two files, written beside this one, the same bytes on every machine:

skill-orders-chat.jsonl   an order in, its record out, as in orders-chat.jsonl: customer, item, quantity, place.
skill-moves-chat.jsonl    a note of a move in, its record out: from, to, goods, amount. Which of two places is which has
                          to be read.

A third of the rows of each are lessons that the built-in model knows already. They keep what is learnt to the task: a
model that has seen nothing but orders answers everything with one, and so would its merge with another.

Each customer and each place of a task occurs in one row only: whichever rows are held out, a model has to copy names
that no other row has. No lesson is answered with a record, so that records that are counted are those of the task.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import words
from draws import Row, chat, compact, goods, names, pick, quantity, shuffled
from lessons import Lessons
from orders import chats, write

ROWS, LESSONS = 1200, 600

PHRASINGS = """
{amount} {goods} go from {from} to {to}
{amount} {goods} from {from} to {to}
{amount} {goods} are brought to {to} from {from}
{amount} {goods} leave {from} for {to}
{amount} {goods} left {from} and came to {to}
{amount} {goods} came to {to}, they were in {from}
{amount} x {goods}, {from} to {to}
{goods}: {amount}, from {from}, to {to}
{goods} from {from}, {amount} of them, to {to}
{goods} to {to}, {amount} of them, out of {from}
from {from} to {to}: {amount} {goods}
from {from} we take {amount} {goods} to {to}
to {to} from {from}: {amount} {goods}
to {to} go {amount} {goods} of {from}
{from} to {to}, {amount} {goods}
{from} gives {amount} {goods} to {to}
{from} sends {amount} {goods} over to {to}
{from} has {amount} {goods} too many, they go to {to}
{to} gets {amount} {goods} from {from}
{to} needs {amount} {goods} and takes them from {from}
{to} will have {amount} {goods} of {from}
take {amount} {goods} from {from} and bring them to {to}
carry {amount} {goods} to {to}, they lie in {from}
clear {from} of {amount} {goods}, there is room in {to}
""".strip().splitlines()
TONES = ["{}", "{}.", "{}, today.", "Please note, {}.", "Hello! {}. Thank you!"]
TASK = "Log this move: "


def moves(rng: random.Random, places: Sequence[str]) -> Iterator[Row]:
    for start, end in zip(places[::2], places[1::2], strict=True):
        record = {"from": start, "to": end, "goods": goods(rng), "amount": quantity(rng)}
        text = pick(rng, TONES).format(pick(rng, PHRASINGS).format(**record))
        yield chat(TASK + text, compact(record))


def kept(lessons: Iterable[Row]) -> Iterator[Row]:
    """Lessons whose answer is no record."""
    return (row for row in lessons if "{" not in row["messages"][1]["content"])


def main(folder: Path, seed: int = 1) -> None:
    rng = random.Random(seed)
    customers = names(rng, words.NAME_STARTS, words.NAME_ENDS)
    places = names(rng, words.PLACE_STARTS, words.PLACE_ENDS)
    orders = list(chats(rng, customers[:ROWS], places[:ROWS]))
    moved = list(moves(rng, places[ROWS : 3 * ROWS]))
    lessons = kept(Lessons(rng, customers[ROWS:], places[3 * ROWS :]))
    for name, rows in (("orders", orders), ("moves", moved)):
        mixed = shuffled(rng, [*rows, *islice(lessons, LESSONS)])
        write(folder / f"skill-{name}-chat.jsonl", map(compact, mixed))


if __name__ == "__main__":
    main(Path(__file__).parent)
