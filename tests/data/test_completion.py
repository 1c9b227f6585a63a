"""`format: completion`: documents and prompts out of text files and tables."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneforge import Finding, StepError, TextData
from tuneforge.inputs import inputs_of
from tuneforge_data import Chat, Completion, Preference, extend_plan
from tuneforge_data.reading import texts

from .conftest import CarryOut, Written
from .test_holdout import Planned


def documents(outcome: Any) -> list[str]:
    assert all(row["prompt"] is None for row in outcome.train)
    return [row["completion"] for row in outcome.train]


def found(method: Completion | Chat | Preference) -> Finding:
    (finding,) = method.check({})
    return finding


def test_a_text_file_is_a_document(carry_out: CarryOut, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(b"\xef\xbb\xbfFirst line\r\n\r\n  second\n")
    outcome = carry_out(Completion(path=tmp_path / "one.txt"))
    assert documents(outcome) == ["First line\n\n  second\n"]
    counts = {"read": 1, "kept": {"train": 1, "held_out": 0}, "bytes": {"train": 26, "held_out": 0}, "left_out": {}}
    assert outcome.summary == {"shape": "text"} | counts
    assert list(TextData.missing(outcome.folder)) == [] and TextData.summary(outcome.folder) == outcome.summary
    assert inputs_of(Completion) == {}


@pytest.mark.parametrize(
    ("separator", "wanted"),
    [
        ("\n\n", ["one\nstill one", "two", "three"]),
        ("\n", ["one", "still one", "two", "three"]),
        ("two", ["one\nstill one", " \n\nthree"]),
    ],
)
def test_several_documents_in_a_file(carry_out: CarryOut, tmp_path: Path, separator: str, wanted: list[str]) -> None:
    for name, ending in (("unix.txt", "\n"), ("windows.md", "\r\n")):
        text = "\n\none\nstill one\n\n\n\ntwo\n\n \n\nthree\n".replace("\n", ending)
        (tmp_path / name).write_bytes(text.encode())
        assert documents(carry_out(Completion(path=tmp_path / name, separator=separator))) == wanted


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n|"), min_size=1), max_size=8),
    st.sampled_from(["\n\n", "\n", "|", "|-|"]),
    st.integers(1, 7),
)
def test_no_document_is_lost_wherever_the_file_is_cut(given_: list[str], separator: str, at_once: int) -> None:
    import io

    from tuneforge_data import reading

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_AT_ONCE", at_once)
        for ending in ("\n", "\r\n"):
            content = separator.join(given_).replace("\n", ending).encode()
            rows: list[Any] = [row for _, row in texts(separator)[".txt"](io.BytesIO(content))]
            texts_given = [text for text in given_ if text.encode().strip()]
            # A mark at the beginning of a file is no text.
            assert [row["text"].removeprefix("\ufeff") for row in rows] == [
                text.removeprefix("\ufeff") for text in texts_given if text.removeprefix("\ufeff").encode().strip()
            ]


def test_a_folder_and_a_pattern(carry_out: CarryOut, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.txt", "b/c.md", "b/d.txt", ".hidden.txt", "notes.doc"):
        (tmp_path / name).write_text(name)
    (tmp_path / "z.txt.gz").write_bytes(gzip.compress(b"z"))
    assert documents(carry_out(Completion(path=tmp_path))) == ["a.txt", "b/c.md", "b/d.txt", "z"]
    assert documents(carry_out(Completion(path=tmp_path, files="**/*.md"))) == ["b/c.md"]
    assert documents(carry_out(Completion(path=tmp_path, files="*.txt"))) == ["a.txt"]
    finding = found(Completion(path=tmp_path, files="*.tex"))
    assert finding.problem == f"{tmp_path} holds no file of rows that matches *.tex"
    assert ".txt" in finding.fix


def test_columns_of_every_kind_of_table(carry_out: CarryOut, tmp_path: Path) -> None:
    rows = [{"content": "One, two", "id": "1"}, {"content": "Three\nfour", "id": "2"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["content", "id"])
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for suffix in ("json", "jsonl", "csv", "parquet"):
        path = tmp_path / f"rows.{suffix}"
        assert found(Completion(path=path)).fix.startswith("Add `columns: {text: content}`.")
        method = Completion(path=path, columns={"text": "content"})
        assert list(method.check({})) == []
        assert documents(carry_out(method)) == ["One, two", "Three\nfour"]


def test_prompts_and_completions(carry_out: CarryOut, written: Written) -> None:
    path = written([{"question": "2 + 2 =", "answer": " 4"}])
    assert found(Completion(path=path)).fix.startswith("Add `columns: {prompt: question, completion: answer}`.")
    outcome = carry_out(Completion(path=path, columns={"prompt": "question", "completion": "answer"}))
    assert outcome.train == [{"prompt": "2 + 2 =", "completion": " 4"}]


def test_what_cannot_be_used_is_counted(carry_out: CarryOut, written: Written, tmp_path: Path) -> None:
    rows: list[object] = [
        {"text": "fine"},
        {"text": " \n"},
        {"text": 3},
        {"prompt": "", "completion": "a"},
        {"prompt": "a", "completion": ""},
        {"other": "a"},
    ]
    outcome = carry_out(Completion(path=written(rows), max_left_out=1))
    assert outcome.summary["left_out"] == {
        "columns of no known shape": 1,
        "empty completion": 1,
        "empty prompt": 1,
        "empty text": 1,
        "text is not text": 1,
    }
    (tmp_path / "a.txt").write_bytes(b"good\n\nb\xffd\n\ngood too")
    outcome = carry_out(Completion(path=tmp_path, separator="\n\n"))
    assert documents(outcome) == ["good", "good too"]
    assert outcome.log[1] == "left out 1: not UTF-8 (a.txt text 2)"
    with pytest.raises(StepError, match="none of the 1 rows can be used: 1 not UTF-8"):
        carry_out(Completion(path=tmp_path, max_left_out=1))


def test_rows_of_the_other_methods_are_told(written: Written) -> None:
    conversations = written([{"messages": [{"role": "user", "content": "Hi"}]}])
    assert found(Completion(path=conversations)).fix == "These are rows for `format: chat`."
    asked = written([{"prompt": [{"role": "user", "content": "Hi"}], "completion": "Hello"}])
    assert found(Completion(path=asked)).fix == "These are rows for `format: chat`."
    pairs = written([{"prompt": "Hi", "chosen": "a", "rejected": "b"}])
    assert found(Completion(path=pairs)).fix == "These are rows for `format: preference`."
    plain = written([{"text": "Hi"}])
    assert found(Chat(path=plain)).fix == "These are rows for `format: completion`."
    assert found(Preference(path=plain)).fix == "These are rows for `format: completion`."


def test_documents_are_held_out_by_their_text_and_completions_by_their_prompt(
    carry_out: CarryOut, written: Written
) -> None:
    numbers = range(300)
    outcome = carry_out(Completion(path=written([{"text": f"Number  {n}"} for n in numbers]), holdout=0.2))
    again = carry_out(Completion(path=written([{"text": f"number {n}\n"} for n in numbers]), holdout=0.2))
    assert 30 < len(outcome.held_out) < 90
    assert [row["completion"].split()[1] for row in outcome.held_out] == [
        row["completion"].split()[1] for row in again.held_out
    ]
    asked = [{"prompt": f"Number {n}", "completion": str(answer)} for n in numbers for answer in (1, 2)]
    prompted = carry_out(Completion(path=written(asked), holdout=0.2))
    chats = carry_out(Chat(path=written(asked), holdout=0.2))
    assert [row["prompt"] for row in prompted.held_out] == [row["messages"][0]["content"] for row in chats.held_out]


def test_only_held_out_prompts_must_agree_with_those_of_other_steps(tmp_path: Path) -> None:
    chats = Planned("chats", Chat(path=tmp_path, holdout=0.1))
    for options in (
        {"path": "a.txt"},
        {"path": "rows.jsonl", "columns": {"text": "x"}},
        {"path": "r.csv", "shape": "text"},
    ):
        assert extend_plan([chats, Planned("texts", Completion(**options, holdout=0.2))]) == []
    (finding,) = extend_plan([chats, Planned("texts", Completion(path="rows.jsonl", holdout=0.2))])
    assert finding.problem.startswith("chats holds out 0.1 of the prompts, texts 0.2:")


@pytest.mark.parametrize(("given_", "margin"), [(1, 1.0), (0.25, 0.25), ("2.5", 2.5), ("", None), (None, None)])
def test_the_margin_of_a_pair(carry_out: CarryOut, written: Written, given_: object, margin: float | None) -> None:
    pair = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    assert carry_out(Preference(path=written([pair | {"margin": given_}]))).train[0]["margin"] == margin
    renamed = Preference(path=written([pair | {"delta": given_}]), columns={"margin": "delta"})
    assert carry_out(renamed).train[0]["margin"] == margin


def test_a_margin_that_is_no_number(carry_out: CarryOut, written: Written) -> None:
    pair = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    rows = [pair, *(pair | {"margin": value} for value in ("much", [1], "inf"))]
    outcome = carry_out(Preference(path=written(rows), max_left_out=1))
    assert outcome.summary["left_out"] == {"margin is not a number": 3}
