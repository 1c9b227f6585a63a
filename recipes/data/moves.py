"""Writes a second task beside the orders: goods that are moved from one place to another, and the record of each move.

Run as: python recipes/data/moves.py

moves-chat.jsonl, written beside this file, the same bytes on every machine: a note of a move in, its record out:
{"from": ..., "to": ..., "goods": ..., "amount": ...}. Other words are asked with, other fields are answered, and which
of two places is which has to be read. The answer is always the bare record.

Each place occurs in one row only: whichever rows are held out, a model has to copy names that no other row has.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import words
from draws import Row, chat, compact, goods, names, pick, quantity
from orders import write

MOVES = 1500

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


def main(folder: Path, seed: int = 1) -> None:
    rng = random.Random(seed)
    places = names(rng, words.PLACE_STARTS, words.PLACE_ENDS)[: 2 * MOVES]
    write(folder / "moves-chat.jsonl", map(compact, moves(rng, places)))


if __name__ == "__main__":
    main(Path(__file__).parent)
