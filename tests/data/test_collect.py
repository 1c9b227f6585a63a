"""A data step as a whole: its files, what it tells, and when it fails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tuneforge import ChatData, StepError
from tuneforge_data import Chat, Preference

from .conftest import CarryOut, Written

GOOD = [{"prompt": f"Number {number}?", "completion": "Yes"} for number in range(40)]
BAD = [{"prompt": "", "completion": "Yes"}] * 3 + [{"text": "Hi"}]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def as_json(rows: Sequence[Mapping[str, object]]) -> int:
    """The length of rows as they are written."""
    values = [value for row in rows for value in row.values() if value is not None]
    return sum(len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) for value in values)


def test_what_is_written_and_told(carry_out: CarryOut, written: Written) -> None:
    outcome = carry_out(Chat(path=written(BAD + GOOD), holdout=0.25))
    kept = {"train": len(outcome.train), "held_out": len(outcome.held_out)}
    assert kept["held_out"] > 0 and sum(kept.values()) == 40
    assert sorted(digests(outcome.folder)) == ["data.json", "held_out-00000.parquet", "train-00000.parquet"]
    assert list(ChatData.missing(outcome.folder)) == []
    assert outcome.summary == {
        "shape": "completion",
        "read": 44,
        "kept": kept,
        "bytes": {"train": as_json(outcome.train), "held_out": as_json(outcome.held_out)},
        "left_out": {"columns of no known shape": 1, "empty prompt": 3},
    }
    assert outcome.metrics == outcome.summary == ChatData.summary(outcome.folder)
    assert outcome.log == [
        f"kept 40 of 44 rows: {kept['train']} to train on, {kept['held_out']} held out",
        "left out 3: empty prompt (rows.jsonl:1, rows.jsonl:2, rows.jsonl:3)",
        "left out 1: columns of no known shape (rows.jsonl:4)",
    ]


def test_rows_keep_their_order(carry_out: CarryOut, written: Written) -> None:
    outcome = carry_out(Chat(path=written(GOOD), holdout=0.25))
    prompts = [row["prompt"] for row in GOOD]
    for rows in (outcome.train, outcome.held_out):
        found = [prompts.index(row["messages"][0]["content"]) for row in rows]
        assert found == sorted(found)


def test_the_same_rows_give_the_same_bytes_wherever_they_lie(carry_out: CarryOut, written: Written) -> None:
    one, other = (carry_out(Chat(path=written(BAD + GOOD), holdout=0.25)) for _ in range(2))
    assert digests(one.folder) == digests(other.folder)


def test_shapes_may_be_mixed(carry_out: CarryOut, written: Written) -> None:
    rows = [*GOOD, {"instruction": "Hi", "output": "Hello"}]
    assert carry_out(Chat(path=written(rows))).summary["shape"] == "alpaca, completion"
    only = carry_out(Chat(path=written(rows), shape="completion"))
    assert only.summary["left_out"] == {"columns of no known shape": 1}


def test_the_limit_counts_rows_read(carry_out: CarryOut, written: Written) -> None:
    outcome = carry_out(Chat(path=written(BAD[:2] + GOOD), limit=10))
    assert (outcome.summary["read"], len(outcome.train)) == (10, 8)
    assert outcome.train[-1]["messages"][0]["content"] == "Number 7?"


def test_progress_is_told(carry_out: CarryOut, written: Written) -> None:
    outcome = carry_out(Chat(path=written(GOOD * 60)))
    assert len(outcome.progress) == 2
    assert all(0 < done <= total for done, total in outcome.progress)


def test_nothing_usable_is_an_error_with_the_reasons(carry_out: CarryOut, written: Written) -> None:
    with pytest.raises(StepError, match="none of the 4 rows can be used: 3 empty prompt; 1 columns of no known shape"):
        carry_out(Chat(path=written(BAD), max_left_out=1))


def test_too_many_unusable_rows_are_an_error_unless_allowed(carry_out: CarryOut, written: Written) -> None:
    path = written(BAD + GOOD[:2])
    with pytest.raises(StepError, match=r"4 of 6 rows cannot be used: .*\n.*max_left_out: 0.68"):
        carry_out(Chat(path=path))
    assert len(carry_out(Chat(path=path, max_left_out=0.68)).train) == 2


def test_holding_out_everything_is_an_error(carry_out: CarryOut, written: Written) -> None:
    with pytest.raises(StepError, match="none is left to train on"):
        carry_out(Chat(path=written(GOOD[:1] * 5), holdout=0.999999))


def test_options_say_what_counts() -> None:
    keyed = {"keyed": True, "digest": lambda path: "digest"}
    method = Chat(path="rows.jsonl", columns={"prompt": "question"}, max_left_out=0.9)
    columns = {"prompt": "question"}
    assert method.model_dump(context=keyed) == {"path": "digest", "columns": columns, "max_left_out": 0.9}


@pytest.mark.parametrize("kind", [Chat, Preference])
def test_the_schema_completes_columns_and_shapes(kind: type[Chat] | type[Preference]) -> None:
    schema = json.dumps(kind.model_json_schema())
    for shape in kind.shapes:
        assert f'"{shape.name}"' in schema
        assert set(shape.columns) <= set(kind.model_fields["columns"].default.called())
