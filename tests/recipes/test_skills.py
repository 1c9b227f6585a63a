"""The tasks of merge-two-skills are what their generator writes, and stand beside each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipes.test_orders import DATA, record, rows

FILES = ["chores", "orders/orders", "orders/chores", "moves/moves", "moves/chores"]
FIELDS = {"orders": ["customer", "item", "quantity", "place"], "moves": ["from", "goods", "amount", "to"]}
TASKS = {"orders": "Record this order: ", "moves": "Log this move: "}


def asked(name: str) -> list[tuple[str, str]]:
    """Questions and answers."""
    found = [[message["content"] for message in row["messages"]] for row in rows(f"skills/{name}.jsonl")]
    return [(question, answer) for question, answer in found]


def test_the_generator_writes_the_committed_bytes(tmp_path: Path) -> None:
    for script in DATA.glob("*.py"):
        shutil.copy(script, tmp_path)
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "skills.py"], cwd=tmp_path, env=environment, check=True)
    for name in FILES:
        ours, theirs = (folder / "skills" / f"{name}.jsonl" for folder in (tmp_path, DATA))
        assert ours.read_bytes() == theirs.read_bytes(), "run recipes/data/skills.py"
    assert {str(path.relative_to(DATA / "skills"))[:-6] for path in DATA.glob("skills/**/*.*")} == set(FILES)
    assert sum((DATA / "skills" / f"{name}.jsonl").stat().st_size for name in FILES) < 1_500_000


@pytest.mark.parametrize("task", TASKS)
def test_every_answer_is_the_bare_record_of_its_question(task: str) -> None:
    found = asked(f"{task}/{task}")
    assert len(found) == 1200
    for question, answer in found:
        assert question.startswith(TASKS[task])
        before, written = record(answer)
        assert (before, list(written)) == ("", FIELDS[task])
        assert all(str(value) in question for value in written.values())


def test_chores_are_neither_task_and_each_has_fields_of_its_own() -> None:
    fields: dict[str, set[tuple[str, ...]]] = {}
    for name in ("chores", "orders/chores", "moves/chores"):
        for question, answer in asked(name):
            assert not question.startswith(tuple(TASKS.values()))
            before, written = record(answer)
            assert not before and all(str(value) in question for value in written.values())
            fields.setdefault(question.partition(": ")[0], set()).add(tuple(written))
    assert len(fields) == 6 and all(len(of) == 1 for of in fields.values())
    assert len({of for one in fields.values() for of in one}) == 6


def test_no_name_of_a_task_comes_twice() -> None:
    orders, moves = ([record(answer)[1] for _, answer in asked(f"{task}/{task}")] for task in TASKS)
    customers = [found["customer"] for found in orders]
    places = [found[end] for found in moves for end in ("from", "to")] + [found["place"] for found in orders]
    assert len(set(customers)) == len(customers) and len(set(places)) == len(places)
