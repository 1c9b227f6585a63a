"""The second task of the demonstration is what its generator writes, and stands beside the first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipes.test_orders import DATA, record, rows

FIELDS = ["from", "to", "goods", "amount"]


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_generator_writes_the_committed_bytes(tmp_path: Path, hash_seed: str) -> None:
    for script in DATA.glob("*.py"):
        shutil.copy(script, tmp_path)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    subprocess.run([sys.executable, "moves.py"], cwd=tmp_path, env=environment, check=True)
    ours, theirs = (folder / "moves-chat.jsonl" for folder in (tmp_path, DATA))
    assert ours.read_bytes() == theirs.read_bytes(), "run recipes/data/moves.py"
    assert theirs.stat().st_size < 500_000


def test_every_answer_is_the_bare_record_of_its_move() -> None:
    for row in rows("moves-chat.jsonl"):
        move, answer = (message["content"] for message in row["messages"])
        before, found = record(answer)
        assert (before, list(found)) == ("", FIELDS)
        assert isinstance(found["amount"], int)
        for value in found.values():
            assert str(value) in move


def test_no_place_comes_twice() -> None:
    records = [record(row["messages"][1]["content"])[1] for row in rows("moves-chat.jsonl")]
    places = [entry[end] for entry in records for end in ("from", "to")]
    assert len(places) == len(set(places)) == 3000


def test_the_two_tasks_are_told_apart_by_their_first_words_alone() -> None:
    firsts = [
        {row["messages"][0]["content"].partition(":")[0] for row in rows(f"{task}-chat.jsonl")}
        for task in ("orders", "moves")
    ]
    assert firsts == [{"Record this order"}, {"Log this move"}]
