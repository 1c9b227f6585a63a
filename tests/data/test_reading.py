"""Rows out of every kind of file."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneforge import StepError
from tuneforge_data import Chat
from tuneforge_data.messages import LeftOutError
from tuneforge_data.reading import Rows

from .conftest import CarryOut
from .test_properties import as_openai, talks, texts

Table = Sequence[dict[str, Any]]


def lines(rows: Table) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(rows: Table, delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return file.getvalue()


FILES: dict[str, Callable[[Table], bytes]] = {
    "rows.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "marked.json": lambda rows: b"\xef\xbb\xbf" + json.dumps(rows, ensure_ascii=False).encode(),
    "lines.json": lines,
    "rows.jsonl": lines,
    "rows.ndjson": lines,
    "rows.csv": table,
    "marked.csv": lambda rows: b"\xef\xbb\xbf" + table(rows),
    "rows.tsv": lambda rows: table(rows, "\t"),
    "rows.parquet": parquet,
    "rows.JSON.gz": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "rows.jsonl.gz": lambda rows: gzip.compress(lines(rows)),
    "rows.csv.gz": lambda rows: gzip.compress(table(rows)),
}


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"instruction": texts, "input": st.text(), "output": texts}), min_size=1, max_size=4)
)
def test_every_kind_of_file_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, carry_out: CarryOut, rows: Table
) -> None:
    folder = tmp_path_factory.mktemp("files")
    expected = None
    for name, make in FILES.items():
        path = folder / name
        path.write_bytes(make(rows))
        outcome = carry_out(Chat(path=path))
        assert len(outcome.train) == len(rows), name
        expected = expected or outcome
        assert (outcome.train, outcome.summary) == (expected.train, expected.summary), name


@settings(max_examples=10, deadline=None)
@given(st.lists(talks(), min_size=1, max_size=3))
def test_nested_columns_are_the_same_in_every_kind_of_file(
    tmp_path_factory: pytest.TempPathFactory, carry_out: CarryOut, conversations: list[list[dict[str, Any]]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    # Arrow fills what some messages lack with nulls; arguments are text there, as OpenAI's are.
    nested = [{"messages": as_openai(talk)} for talk in conversations]
    flat = [{"messages": json.dumps(row["messages"])} for row in nested]
    for name, make in FILES.items():
        path = folder / name
        path.write_bytes(make(flat if ".csv" in name or ".tsv" in name else nested))
        assert [row["messages"] for row in carry_out(Chat(path=path)).train] == conversations, name


def test_keys_that_arrow_invents_are_taken_out_again(tmp_path: Path, carry_out: CarryOut) -> None:
    def talk(**arguments: Any) -> list[dict[str, Any]]:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return [{"role": "user", "content": "Go"}, {"role": "assistant", "content": "", "tool_calls": [call]}]

    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet([{"messages": talk(a=1)}, {"messages": talk(b=2)}]))
    assert [row["messages"] for row in carry_out(Chat(path=path)).train] == [talk(a=1), talk(b=2)]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for number, name in enumerate(("b.jsonl", "a.json", "more/c.csv", ".hidden.jsonl", "readme.md")):
        content = json.dumps([{"n": number}]) if name.endswith(".json") else json.dumps({"n": number})
        (tmp_path / name).write_text(f"n\n{number}\n" if name.endswith(".csv") else content)
    assert list(Rows(tmp_path)) == [("a.json row 1", {"n": 1}), ("b.jsonl:1", {"n": 0}), ("c.csv:2", {"n": "2"})]


def test_numbers_of_json_arrays_are_read_as_those_of_lines(tmp_path: Path) -> None:
    row = {"big": 2**80, "small": -3, "float": 0.1, "exponent": 1e300, "nested": [{"x": 5e-324}]}
    for name in ("rows.json", "rows.jsonl"):
        (tmp_path / name).write_text(json.dumps(row) if name == "rows.jsonl" else json.dumps([row]))
        ((_, read),) = Rows(tmp_path / name)
        assert repr(read) == repr(row)


def test_a_broken_line_is_one_row_left_out(tmp_path: Path, carry_out: CarryOut) -> None:
    path = tmp_path / "rows.jsonl"
    good = '{"prompt": "Hi", "completion": "Hello"}'
    path.write_bytes(f'{good}\n\n{{"prompt": "Hi", \n{good}\n{{"x": NaN}}\n'.encode() + b'{"prompt": "\xff"}\n')
    outcome = carry_out(Chat(path=path, max_left_out=1))
    assert outcome.summary["read"] == 5
    assert outcome.summary["left_out"] == {"broken JSON": 3}
    assert outcome.log[1:] == ["left out 3: broken JSON (rows.jsonl:3, rows.jsonl:5, rows.jsonl:6)"]


def test_a_line_of_csv_with_other_cells_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('prompt,completion\nHi,"a, b\nc"\nHi\nHi,Ho,Hu\n')
    (_, first), (place, short), (_, long) = Rows(path)
    assert first == {"prompt": "Hi", "completion": "a, b\nc"}
    assert place == "rows.csv:4"
    assert isinstance(short, LeftOutError) and isinstance(long, LeftOutError)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    for name, make in FILES.items():
        (tmp_path / name).write_bytes(make([{"n": number} for number in range(1000)]))
    rows = Rows(tmp_path)
    for _ in rows:
        assert 0 <= rows.done <= rows.total
    assert rows.done == rows.total == sum(path.stat().st_size for path in tmp_path.iterdir())


GOOD = b'{"prompt": "Hi", "completion": "Hello"}'


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("cut.json", b"[" + GOOD + b"," + GOOD[:20], "cannot be read"),
        ("pretty.json", b'{\n  "data": []\n}', "neither an array of rows nor one row a line"),
        ("cut.jsonl.gz", gzip.compress(GOOD * 100, mtime=0)[:-10], "cannot be read"),
        ("plain.jsonl.gz", GOOD, "cannot be read"),
        ("latin.csv", "prompt,completion\nHi,Grüße\n".encode("latin-1"), "cannot be read"),
        ("not.parquet", GOOD, "cannot be read"),
        ("rows.txt", b"Hi", "does not end in"),
        ("empty.jsonl", b"", "no rows"),
        ("empty.json", b"", "no rows"),
        ("empty.csv", b"prompt,completion\n", "no rows"),
    ],
)
def test_a_broken_file_is_an_error(
    tmp_path: Path, carry_out: CarryOut, name: str, content: bytes, problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(StepError, match=problem):
        carry_out(Chat(path=path))
    findings = list(Chat(path=path).check({}))
    assert [(finding.level, finding.field) for finding in findings] == [("error", "path")]
    assert problem in findings[0].problem and findings[0].fix


def test_the_error_tells_how_far_the_file_is_whole(tmp_path: Path, carry_out: CarryOut) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"[" + b",".join([GOOD] * 5000) + b', {"prompt')
    with pytest.raises(StepError, match=r"rows\.json cannot be read after rows\.json row \d{4}: parse error"):
        carry_out(Chat(path=path))


def test_only_the_head_is_read_before_a_run(tmp_path: Path) -> None:
    whole = {
        "tail.json": b"[" + b",".join([GOOD] * 20_000) + b", oops",
        "tail.jsonl": b"\n".join([GOOD] * 20_000) + b"\n\xff\xff",
        "tail.csv": b"prompt,completion\n" + b"Hi,Hello\n" * 20_000 + b"\xff\xff\n",
        "tail.jsonl.gz": gzip.compress(b"\n".join([GOOD[:-1] + b', "n": %d}' % n for n in range(99_999)]))[:-100],
    }
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
        assert list(Chat(path=tmp_path / name).check({})) == [], name
