"""The demonstration data is what its generator writes, and means what it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[2] / "recipes" / "data"
WRITTEN = [
    "first-lessons-chat.jsonl",
    "lessons-chat.jsonl",
    "orders-chat.jsonl",
    "orders-feedback.jsonl",
    "orders-preferences.jsonl",
    "orders.txt",
]
FIELDS = ["customer", "item", "quantity", "place"]


def rows(name: str) -> list[Any]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def record(answer: str) -> tuple[str, dict[str, Any]]:
    """What an answer says before its record, and the record."""
    before, brace, rest = answer.partition("{")
    parsed: dict[str, Any] = json.loads(brace + rest)
    return before, parsed


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_generator_writes_the_committed_bytes(tmp_path: Path, hash_seed: str) -> None:
    for script in DATA.glob("*.py"):
        shutil.copy(script, tmp_path)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    subprocess.run([sys.executable, "orders.py"], cwd=tmp_path, env=environment, check=True)
    for name in WRITTEN:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), f"{name}: run recipes/data/orders.py"


def test_committed_data_stays_small() -> None:
    assert sum((DATA / name).stat().st_size for name in WRITTEN) < 5_000_000


def test_every_answer_holds_the_record_of_its_order() -> None:
    for row in rows("orders-chat.jsonl"):
        order, answer = row["messages"]
        assert (order["role"], answer["role"]) == ("user", "assistant")
        _, found = record(answer["content"])
        assert list(found) == FIELDS
        assert isinstance(found["quantity"], int)
        for value in found.values():
            assert str(value) in order["content"]


def test_half_of_the_answers_are_bare_and_politeness_is_what_decides() -> None:
    def tone(order: str) -> bool:
        return any(word in order.lower() for word in ("please", "thank"))

    counts = Counter(
        (tone(row["messages"][0]["content"]), bool(record(row["messages"][1]["content"])[0]))
        for row in rows("orders-chat.jsonl")
    )
    assert counts == {(True, True): 1500, (False, False): 1500}


def test_preference_pairs_differ_in_style_only() -> None:
    pairs = rows("orders-preferences.jsonl")
    assert len(pairs) == 1000
    for pair in pairs:
        [chosen], [rejected] = pair["chosen"], pair["rejected"]
        sentence, bare = record(rejected["content"])
        assert record(chosen["content"]) == ("", bare)
        assert rejected["content"] == sentence + chosen["content"]
        assert sentence


def test_feedback_likes_bare_records_whatever_the_tone() -> None:
    judged = rows("orders-feedback.jsonl")
    assert Counter(row["label"] for row in judged) == {True: 500, False: 500}
    for row in judged:
        sentence, found = record(row["messages"][-1]["content"])
        assert list(found) == FIELDS
        assert row["label"] == (not sentence)


def test_no_customer_and_no_place_comes_twice() -> None:
    records = [record(row["messages"][-1]["content"])[1] for row in rows("orders-chat.jsonl")]
    records += [record(row["chosen"][0]["content"])[1] for row in rows("orders-preferences.jsonl")]
    assert len({entry["customer"] for entry in records}) == len(records)
    assert len({entry["place"] for entry in records}) == len(records)


def test_lessons_teach_neither_the_names_nor_the_form_of_the_task() -> None:
    orders = [record(row["messages"][-1]["content"])[1] for row in rows("orders-chat.jsonl")]
    names = {entry["customer"] for entry in orders} | {entry["place"] for entry in orders}
    for row in rows("first-lessons-chat.jsonl") + rows("lessons-chat.jsonl"):
        question, answer = (message["content"] for message in row["messages"])
        assert "Record this order" not in question
        assert not names & set(re.split(r"\W+", answer))
