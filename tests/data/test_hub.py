"""Data sets of the Hub: pinned to a commit, read out of the Hub's cache. The Hub is the registry's own server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, constants

from tests.hubs import Served, point
from tuneforge import Finding, Step, StepError
from tuneforge.keys import step_key
from tuneforge.kit.rows import read_rows
from tuneforge.sources import Digests
from tuneforge_data import Chat, Completion, Feedback, Preference, Prompts

ROWS = [{"prompt": f"{number} lamps?", "completion": f"{number} lamps."} for number in range(6)]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def push(repo: str, **contents: bytes) -> str:
    """A commit of a data set with these files, named `path__to__file_end`."""
    api = HfApi()
    if not api.repo_exists(repo, repo_type="dataset"):
        api.create_repo(repo, repo_type="dataset")
    for name, content in contents.items():
        folder, _, end = name.replace("__", "/").rpartition("_")
        api.upload_file(path_or_fileobj=content, path_in_repo=f"{folder}.{end}", repo_id=repo, repo_type="dataset")
    return str(api.dataset_info(repo).sha)


def carried_out(method: Any, folder: Path) -> list[dict[str, Any]]:
    """The rows that a step makes, configured as a worker has it."""
    folder.mkdir()
    anew = type(method)(**method.model_dump(mode="json"))
    anew.run(step=Step("data", folder, folder, 0, 1, lambda event: None))
    return list(read_rows(method.output(folder, "d" * 64), "train"))


def errors(method: Any) -> list[Finding]:
    return [finding for finding in method.check({}) if finding.level == "error"]


def test_a_data_set_is_pinned_and_read_as_it_was(hub: Served, tmp_path: Path) -> None:
    first = push("lamps", train_jsonl=lines(ROWS), README_md=b"---\nlicense: mit\n---\nLamps.")
    method = Chat(repo="lamps").pin()
    assert method.revision == first and list(method.check({})) == []
    assert method.foresee({}).rows == 6
    second = push("lamps", train_jsonl=lines(ROWS[:2]))
    assert Chat(repo="lamps").pin().revision == second != first
    assert len(carried_out(method, tmp_path / "first")) == 6
    assert len(carried_out(Chat(repo="lamps").pin(), tmp_path / "second")) == 2
    digests = Digests(tmp_path / "digests.json")
    keys = {step_key(Chat(repo="lamps", revision=revision).pin(), 0, {}, digests) for revision in (first, second)}
    assert len(keys) == 2 and step_key(method, 0, {}, digests) in keys


def test_what_is_in_the_cache_needs_no_network(hub: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = push("cached-lamps", train_jsonl=lines(ROWS))
    Chat(repo="cached-lamps").pin()
    hub.forget()
    pinned = Chat(repo="cached-lamps", revision=commit).pin()
    assert list(pinned.check({})) == [] and len(carried_out(pinned, tmp_path / "pinned")) == 6
    assert hub.asked("cached-lamps") == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = Chat(repo="cached-lamps").pin()
    (warning,) = offline.check({})
    assert offline.revision == commit and "HF_HUB_OFFLINE is set" in warning.problem
    (error,) = errors(Chat(repo="other-lamps").pin())
    assert "HF_HUB_OFFLINE is set" in error.problem and error.field == "repo"


def test_formats_and_patterns(hub: Served, tmp_path: Path) -> None:
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), table)
    commit = push(
        "many-lamps",
        data__train_parquet=table.getvalue().to_pybytes(),
        data__test_json=json.dumps(ROWS[:1]).encode(),
        more__lamps_csv=b"prompt,completion\nhow many?,two\n",
        notes__one_txt=b"A text.",
    )
    (error,) = errors(Chat(repo="many-lamps").pin())
    assert "several splits" in error.problem and error.field == "files" and "files: 'data/test.json'" in error.fix
    for pattern, count in (("data/train*", 6), ("**/test.json", 1), ("more/*.csv", 1)):
        method = Chat(repo="many-lamps", revision=commit, files=pattern).pin()
        assert errors(method) == []
        assert len(carried_out(method, tmp_path / str(len(pattern)))) == count
    texts = carried_out(Completion(repo="many-lamps", files="notes/*").pin(), tmp_path / "texts")
    assert [row["completion"] for row in texts] == ["A text."]
    (error,) = errors(Preference(repo="many-lamps", files="more/*").pin())
    assert error.field == "repo" and "format: chat" in error.fix


def test_files_that_no_reader_reads_are_told(hub: Served, tmp_path: Path) -> None:
    push("half-lamps", one_jsonl=lines(ROWS), two_arrow=b"rows", README_md=b"Lamps.")
    for _ in ("asked", "cached"):
        method = Chat(repo="half-lamps").pin()
        (warning,) = method.check({})
        assert warning.level == "warning" and "1 files that are not read here, such as two.arrow" in warning.problem
    assert len(carried_out(method, tmp_path / "out")) == 6
    assert list(Chat(repo="half-lamps", files="*.jsonl").pin().check({})) == []


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("data/train-[0-4]*", ["data/train-3.jsonl"]),
        ("data/train-[!0-4]*", ["data/train-7.jsonl"]),
        ("data/[x]*", ["data/x.jsonl"]),
        ("**/*[3x].jsonl", ["data/train-3.jsonl", "data/x.jsonl", "x.jsonl"]),
        ("*", ["x.jsonl", "y[1.jsonl"]),
        ("y[1*", ["y[1.jsonl"]),
    ],
)
def test_patterns_are_those_of_a_folder(tmp_path: Path, pattern: str, names: list[str]) -> None:
    from tuneforge_data.hub import Wanted

    there = ["data/train-3.jsonl", "data/train-7.jsonl", "data/x.jsonl", "x.jsonl", "y[1.jsonl"]
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert Wanted("a/b", "main", pattern, frozenset({".jsonl"})).of(there) == names
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(pattern) if path.is_file()) == names


def test_names_that_lead_out_of_the_repository_are_no_files_of_it() -> None:
    from tuneforge_data.hub import Wanted

    names = ["/etc/rows.jsonl", "../rows.jsonl", "data/../../rows.jsonl", "data/rows.jsonl"]
    assert Wanted("a/b", "main", "**/*", frozenset({".jsonl"})).of(names) == ["data/rows.jsonl"]


def test_preferences(hub: Served, tmp_path: Path) -> None:
    pairs = [{"prompt": "Lamps?", "chosen": "Yes.", "rejected": "No."}]
    push("preferred-lamps", train_jsonl=lines(pairs))
    (pair,) = carried_out(Preference(repo="preferred-lamps").pin(), tmp_path / "pairs")
    assert pair["chosen"][-1]["content"] == "Yes."


def test_prompts(hub: Served, tmp_path: Path) -> None:
    push("asked-lamps", train_jsonl=lines([{"prompt": "Lamps?", "completion": "Yes."}]))
    (row,) = carried_out(Prompts(repo="asked-lamps").pin(), tmp_path / "asked")
    assert (row["prompt"][-1]["content"], row["reference"]) == ("Lamps?", "Yes.")


def test_feedback(hub: Served, tmp_path: Path) -> None:
    push("judged-lamps", train_jsonl=lines([{"prompt": "Lamps?", "completion": "No.", "label": False}]))
    (row,) = carried_out(Feedback(repo="judged-lamps").pin(), tmp_path / "judged")
    assert (row["answer"][-1]["content"], row["label"]) == ("No.", False)


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({"repo": "unknown-lamps"}, "repo", "no data set unknown-lamps"),
        ({"repo": "few-lamps", "revision": "dev"}, "revision", "no branch, tag or commit dev"),
        ({"repo": "few-lamps", "files": "*.csv"}, "files", "no file of rows that matches *.csv"),
        ({"repo": "not/a/name"}, "repo", "no repository"),
        ({"repo": "few-lamps", "path": "x.jsonl"}, "path", "both path and repo"),
        ({}, "path", "neither path nor repo"),
    ],
)
def test_what_is_not_there_is_told_at_once(hub: Served, options: dict[str, Any], field: str, problem: str) -> None:
    if not HfApi().repo_exists("few-lamps", repo_type="dataset"):
        push("few-lamps", train_jsonl=lines(ROWS))
    method = Chat(**options).pin()
    (error,) = errors(method)
    assert error.field == field and problem in error.problem
    assert method.foresee({}).rows is None or field in ("files", "path")


def test_a_large_data_set_is_fetched_by_the_step(hub: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneforge_data import hub_client

    monkeypatch.setattr(hub_client, "_AT_ONCE", 10)
    push("large-lamps", train_jsonl=lines(ROWS))
    hub.forget()
    method = Chat(repo="large-lamps").pin()
    assert list(method.check({})) == [] and method.foresee({}).rows is None
    assert hub.asked("/resolve/") == [], "a plan has no time for it"
    assert len(carried_out(method, tmp_path / "out")) == 6


def test_a_fetch_that_breaks_is_a_failed_step(hub: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = push("broken-lamps", train_jsonl=lines(ROWS))
    point(monkeypatch, "http://127.0.0.1:9", tmp_path / "empty")
    method = Chat(repo="broken-lamps", revision=commit)
    with pytest.raises(StepError, match="cannot be reached"):
        method.run(step=Step("data", tmp_path, tmp_path, 0, 1, lambda event: None))


def test_the_client_is_needed_only_for_the_hub() -> None:
    assert Completion(path="x.txt").requires({}) == Completion.needs
    assert any(need.startswith("huggingface_hub") for need in Completion(repo="a/b").requires({}))
