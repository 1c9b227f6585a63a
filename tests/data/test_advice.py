"""What is told of a data step before anything runs."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneforge import ChatData, Facts, Finding, Model
from tuneforge_data import Chat, Feedback, Preference
from tuneforge_data.options import DataFormat

from .conftest import CarryOut, Written

GOOD = {"prompt": "Hi", "completion": "Hello"}
CHAT_SHAPES = (
    "Known are messages (messages), sharegpt (conversations), alpaca (instruction, output), "
    "completion (prompt, completion)."
)


def found(method: DataFormat, **facts: list[Facts]) -> Finding:
    (finding,) = method.check(facts)
    return finding


def test_good_rows_give_no_findings(written: Written) -> None:
    assert list(Chat(path=written([GOOD])).check({})) == []


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"question": "Hi", "answer": "Hello", "id": 1}, "{prompt: question, completion: answer}"),
        ({"Question": "Hi", "Answer": "Hello"}, "{prompt: Question, completion: Answer}"),
        ({"query": "Hi", "response": "Hello"}, "{prompt: query, completion: response}"),
        ({"instruction": "Hi", "context": "there", "response": "Hello"}, "{output: response, input: context}"),
        ({"instructions": "Hi", "outputs": "Hello"}, "{instruction: instructions, output: outputs}"),
        ({"dialog": [], "id": 3}, "{messages: dialog}"),
        ({"promt": "Hi", "completion": "Hello"}, "{prompt: promt}"),
    ],
)
def test_other_columns_are_told_with_the_nearest_mapping(written: Written, row: dict[str, Any], columns: str) -> None:
    finding = found(Chat(path=written([row])))
    assert finding.level == "error"
    assert finding.field == "path"
    assert finding.problem == f"rows.jsonl has the columns {', '.join(row)}, which are those of no known shape"
    assert finding.fix == f"Add `columns: {columns}`. {CHAT_SHAPES}"


def test_the_suggested_mapping_works(written: Written) -> None:
    path = written([{"question": "Hi", "preferred": "a", "dispreferred": "b"}])
    finding = found(Preference(path=path))
    assert "`columns: {prompt: question, chosen: preferred, rejected: dispreferred}`" in finding.fix
    columns = {"prompt": "question", "chosen": "preferred", "rejected": "dispreferred"}
    assert list(Preference(path=path, columns=columns).check({})) == []


def test_answers_without_a_known_prompt(written: Written) -> None:
    finding = found(Preference(path=written([{"input": "Hi", "chosen": "a", "rejected": "b"}])))
    assert finding.fix.startswith("Add `columns: {prompt: input}`.")


def test_columns_like_none_of_ours_are_told_with_all_shapes(written: Written) -> None:
    finding = found(Chat(path=written([{"a": "Hi", "b": "Hello"}])))
    assert finding.fix == f"Say with columns what is what, as in `columns: {{prompt: ...}}`. {CHAT_SHAPES}"


def test_a_half_mapping_is_completed(written: Written) -> None:
    finding = found(Chat(path=written([{"q": "Hi", "answer": "Hello"}]), columns={"prompt": "q"}))
    assert finding.fix.startswith("Add `columns: {prompt: q, completion: answer}`. Known are completion")


def test_rows_of_the_other_method_are_told(written: Written) -> None:
    pairs = written([{"prompt": "Hi", "chosen": "a", "rejected": "b"}])
    assert found(Chat(path=pairs)).fix == "These are rows for `format: preference`."
    assert found(Preference(path=written([GOOD]))).fix == "These are rows for `format: chat`."
    judged = written([{"prompt": [], "completion": [], "kto_tag": True}])
    assert found(Preference(path=judged)).fix == "These are rows for `format: feedback`."
    assert found(Feedback(path=pairs)).fix == "These are rows for `format: preference`."
    assert found(Feedback(path=written([GOOD]))).fix == "These are rows for `format: chat`."
    liked = written([{**GOOD, "liked": 1}])
    assert found(Feedback(path=liked)).fix.startswith("Add `columns: {label: liked}`.")
    assert found(Feedback(path=written([{**GOOD, "label": "maybe"}]))).fix.startswith("Mend the data")
    talk = [{"from": "human", "value": "Hi"}]
    answers = {"chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}
    finding = found(Chat(path=written([{"conversations": talk, **answers}])))
    assert finding.problem == "of the first 1 rows of rows.jsonl, 1 cannot be used: 1 no answer at the end"
    assert finding.fix == "These are rows for `format: preference`."


def test_a_column_that_is_not_there(written: Written) -> None:
    finding = found(Chat(path=written([{"question": "Hi", "completion": "x"}]), columns={"prompt": "qestion"}))
    assert finding == Finding("rows.jsonl has no column qestion", "Did you mean question?", field="columns.prompt")
    finding = found(Chat(path=written([GOOD]), columns={"system": "persona"}))
    assert finding == Finding(
        "rows.jsonl has no column persona", "It has prompt, completion.", "warning", "columns.system"
    )


def test_columns_of_different_shapes(written: Written) -> None:
    method = Chat(path=written([GOOD]), columns={"messages": "prompt", "output": "completion"})
    assert found(method).problem == "no shape of rows has the columns messages, output at once"
    method = Chat(path=written([GOOD]), shape="alpaca", columns={"messages": "prompt"})
    finding = found(method)
    assert (finding.problem, finding.field) == ("shape alpaca has the columns messages at once", "columns")


def test_a_named_shape_that_is_not_the_rows(written: Written) -> None:
    finding = found(Chat(path=written([GOOD]), shape="alpaca"))
    assert "Known are alpaca (instruction, output)." in finding.fix


def test_many_unusable_rows_are_a_warning_and_all_of_them_an_error(written: Written) -> None:
    bad = {"prompt": "Hi", "completion": ""}
    finding = found(Chat(path=written([bad, bad, GOOD])))
    assert finding.level == "warning"
    assert finding.problem == "of the first 3 rows of rows.jsonl, 2 cannot be used: 2 empty answer"
    assert list(Chat(path=written([bad, GOOD, GOOD])).check({})) == []
    assert found(Chat(path=written([bad, bad]))).level == "error"
    assert list(Chat(path=written([GOOD, bad, bad]), limit=1).check({})) == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_text("{}")
    finding = found(Chat(path=tmp_path / "order.jsonl"))
    assert finding.problem == f"{tmp_path / 'order.jsonl'} does not exist"
    assert finding.fix == f"Did you mean {tmp_path / 'orders.jsonl'}?"
    assert finding.field == "path"
    assert found(Chat(path=tmp_path / "x.csv")).fix == "Its folder holds orders.jsonl."
    assert "folder does not exist either" in found(Chat(path=tmp_path / "none" / "x.csv")).fix


def test_a_folder_without_rows(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("Hi")
    finding = found(Chat(path=tmp_path))
    assert finding.problem == f"{tmp_path} holds no file of rows"
    assert ".parquet" in finding.fix


def test_max_length_wants_a_model_with_a_template(written: Written, tmp_path: Path) -> None:
    path = written([GOOD])
    finding = found(Chat(path=path, max_length=10))
    assert (finding.level, finding.field, finding.fix) == (
        "error",
        "max_length",
        "Wire one beside with: `model: base`.",
    )
    known = Facts(Model, tokenizer=tmp_path)
    assert "the model has none" in found(Chat(path=path, max_length=10), model=[known]).problem
    assert list(Chat(path=path, max_length=10).check({"model": [Facts(Model, tokenizer=tmp_path, template="x")]})) == []
    assert list(Chat(path=path, max_length=10).check({"model": [Facts(Model)]})) == [], "what is not known is no error"
    assert found(Chat(path=path), model=[known]).level == "warning"


def test_checking_lines_imports_nothing_heavy(written: Written) -> None:
    code = (
        "import sys; from tuneforge_data import Chat; "
        f"assert not list(Chat(path={str(written([GOOD]))!r}).check({{}})); "
        "print(sorted({'torch', 'transformers', 'pyarrow', 'numpy', 'ijson'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("count", "limit", "holdout"), [(7, None, 0.0), (700, None, 0.5), (5000, None, 0.1), (900, 30, 0)]
)
def test_how_many_rows_are_expected(written: Written, count: int, limit: int | None, holdout: float) -> None:
    rows = [{"prompt": f"What is {number:05}?", "completion": "Ask."} for number in range(count)]
    facts = Chat(path=written(rows), limit=limit, holdout=holdout).foresee({})
    assert facts.rows == pytest.approx(min(count, limit or count) * (1 - holdout), rel=0.01, abs=1)
    assert facts.row_bytes == len('[{"role":"user","content":"What is 00000?"},{"role":"assistant","content":"Ask."}]')


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".json", ".csv", ".parquet"])
def test_how_many_rows_are_expected_of_any_file(tmp_path: Path, suffix: str) -> None:
    rows = [{"prompt": f"What is {number}?", "completion": "Ask."} for number in range(400)]
    path = tmp_path / f"rows{suffix}"
    if suffix == ".jsonl.gz":
        path.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".csv":
        path.write_text("prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert Chat(path=path).foresee({}).rows == 400


def test_rows_that_cannot_be_used_are_not_expected(written: Written) -> None:
    assert Chat(path=written([GOOD, {"prompt": "", "completion": "x"}] * 20)).foresee({}).rows == 20
    assert Chat(path=written([{"prompt": "", "completion": "x"}])).foresee({}).rows is None


def test_what_is_expected_is_what_comes(carry_out: CarryOut, written: Written) -> None:
    method = Chat(path=written([{"prompt": f"Is {number} even?", "completion": "Ähem."} for number in range(60)]))
    expected, outcome = method.foresee({}), carry_out(method)
    found = ChatData.facts(outcome.folder)
    assert (found.rows, found.row_bytes) == (60, pytest.approx(expected.row_bytes, rel=0.02))
    assert expected.rows == 60
