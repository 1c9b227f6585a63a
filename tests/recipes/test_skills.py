"""The two tasks of merge-two-skills are what their generator writes, and stand beside each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.test_orders import DATA, record, rows

FIELDS = {"orders": ["customer", "item", "quantity", "place"], "moves": ["from", "to", "goods", "amount"]}
TASKS = {"orders": "Record this order: ", "moves": "Log this move: "}


def split(task: str) -> tuple[list[tuple[str, dict[str, Any]]], list[tuple[str, str]]]:
    """Questions with their records, and lessons."""
    found: tuple[list[Any], list[Any]] = ([], [])
    for row in rows(f"skill-{task}-chat.jsonl"):
        question, answer = (message["content"] for message in row["messages"])
        if question.startswith(TASKS[task]):
            found[0].append((question, record(answer)[1]))
        else:
            found[1].append((question, answer))
    return found


def test_the_generator_writes_the_committed_bytes(tmp_path: Path) -> None:
    for script in DATA.glob("*.py"):
        shutil.copy(script, tmp_path)
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "skills.py"], cwd=tmp_path, env=environment, check=True)
    for task in TASKS:
        ours, theirs = (folder / f"skill-{task}-chat.jsonl" for folder in (tmp_path, DATA))
        assert ours.read_bytes() == theirs.read_bytes(), "run recipes/data/skills.py"
        assert theirs.stat().st_size < 500_000


@pytest.mark.parametrize("task", TASKS)
def test_two_thirds_are_the_task_and_each_value_stands_in_its_question(task: str) -> None:
    asked, lessons = split(task)
    assert (len(asked), len(lessons)) == (1200, 600)
    for question, found in asked:
        assert list(found) == FIELDS[task]
        assert all(str(value) in question for value in found.values())
    others = [begin for name, begin in TASKS.items() if name != task]
    assert not [question for question, _ in lessons if question.startswith(tuple(others))]
    assert not [answer for _, answer in lessons if "{" in answer]


def test_no_name_of_a_task_comes_twice() -> None:
    (orders, _), (moves, _) = split("orders"), split("moves")
    customers = [found["customer"] for _, found in orders]
    places = [found[end] for _, found in moves for end in ("from", "to")] + [found["place"] for _, found in orders]
    assert len(set(customers)) == len(customers) and len(set(places)) == len(places)
