"""`tuneforge registry`: names and what is said of them, searching, comparing, removing."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.bench import Bench, new
from tuneforge_registry import Registry

RECIPE = """steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: count, data: [words], with: {top: 2}, as: team/roses}
  note: {align: remark, bag: bag}
  grades: {evaluate: grade, bags: [bag], words: words}
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A home with two versions of a name: what the recipe made, and made otherwise of other data; digests by step."""
    bench = new(tmp_path_factory.mktemp("prepared"))
    digests = {}
    for place, settings in (("", []), ("2", ["--set", "steps.bag.with.top=1"])):
        bench.write(RECIPE)
        run = bench.command("run", "recipe.yaml", "--json", *settings).json
        digests |= {step["name"] + place: step["digest"] for step in run["steps"]}
        (bench.folder / "text.txt").write_text("a rose is not a rose")
    return bench.home, digests


@pytest.fixture
def made(bench: Bench, prepared: tuple[Path, dict[str, str]]) -> dict[str, str]:
    shutil.copytree(prepared[0], bench.home)
    return prepared[1]


Ask = Callable[..., Any]


@pytest.fixture
def ask(bench: Bench) -> Ask:
    """What a command of the registry answers: as JSON, unless it is asked for `text`."""

    def ask_registry(*arguments: str, text: bool = False) -> Any:
        ended = bench.command("registry", *arguments, *([] if text else ["--json"]))
        assert ended.code == 0, ended.err
        return ended.out if text else ended.json

    return ask_registry


def found(ask: Ask, *options: str) -> set[str]:
    return {stored["digest"] for stored in ask("ls", *options)}


def test_artifacts_are_searched(made: dict[str, str], ask: Ask) -> None:
    ask("tag", "team/roses@v2", "--tag", "reviewed")
    assert found(ask) == set(made.values())
    assert found(ask, "--kind", "bag") == found(ask, "--name", "team/*") == {made["bag"], made["bag2"]}
    assert found(ask, "--tag", "reviewed") == found(ask, "--metric", "kept<2") == {made["bag2"]}
    assert found(ask, "--metric", "kept >= 1", "--metric", "kept=2") == {made["bag"]}
    assert found(ask, "--name", "rose*") == found(ask, "--metric", "kept>2") == set()
    everything_after = {made[name] for name in ("bag", "note", "grades")}
    assert found(ask, "--data", made["words"][:10]) == everything_after
    assert found(ask, "--data", "text.txt") == everything_after | {made[n] for n in ("bag2", "note2", "grades2")}
    assert found(ask, "--base", "team/roses@v1") == {made["note"], made["grades"]}
    (first,) = ask("ls", "--kind", "bag", "--limit", "1")
    assert (first["digest"], first["names"], first["scores"]) == (made["bag2"], ["team/roses@v2"], {"kept": 1.0})
    assert first["step"] == "bag"
    head, row = ask("ls", "--metric", "kept>1", text=True).splitlines()
    assert head.split() == ["digest", "kind", "size", "made", "made", "by", "kept", "names"]
    assert row.split()[-2:] == ["2", "team/roses@v1"]


def test_a_table_has_so_many_rows_and_tells_that_there_are_more(
    made: dict[str, str], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneforge.registry_cli.ls._SHOWN", len(set(made.values())) - 1)
    few, every = bench.command("registry", "ls"), bench.command("registry", "ls", "--limit", "0")
    assert len(few.out.splitlines()) == len(every.out.splitlines()) - 1
    assert "--limit 0 shows all" in few.err and not every.err
    assert len(bench.command("registry", "ls", "--json").json) == len(set(made.values()))


@pytest.mark.parametrize("condition", ["kept", ">=3", "kept>=x", "kept=>3"])
def test_a_condition_that_is_none(bench: Bench, condition: str) -> None:
    ended = bench.command("registry", "ls", "--metric", condition)
    assert (ended.code, ended.err.splitlines()[0]) == (2, f"--metric: {condition!r} is no condition")


def test_an_artifact_is_shown_with_its_scores_and_what_is_said_of_it(made: dict[str, str], ask: Ask) -> None:
    ask("tag", "team/roses@v1", "--alias", "production", "--tag", "reviewed", "--note", "it knows\nroses")
    shown = ask("show", "team/roses@production")
    (version,) = shown["versions"]
    assert (version["aliases"], version["tags"], version["note"]) == (["production"], ["reviewed"], "it knows\nroses")
    (score,) = shown["scores"]
    assert score == {"report": made["grades"], "subject": made["bag"], "metric": "kept", "value": 2.0, "passed": True}
    assert shown["users"] == sorted([made["note"], made["grades"]])
    text = ask("show", "team/roses@production", text=True)
    assert "called team/roses@v1 @production  [reviewed]  it knows\nroses" in text
    assert f"scored by grades {made['grades'][:12]}: kept 2" in text
    assert "\x1b" not in text


def test_what_is_said_of_a_version_changes(made: dict[str, str], ask: Ask, bench: Bench) -> None:
    said = ask("tag", made["note"], "notes", "--alias", "a", "--alias", "b", "--tag", "x")
    assert (said["version"], said["aliases"], said["tags"]) == (1, ["a", "b"], ["x"])
    said = ask("tag", "notes@a", "--remove-alias", "b", "--remove-tag", "x", "--tag", "y", "--note", "n")
    assert said == {
        "name": "notes",
        "version": 1,
        "digest": made["note"],
        "aliases": ["a"],
        "tags": ["y"],
        "note": "n",
    }
    assert ask("tag", "notes", "--note", "", text=True) == "notes@v1 @a  [y]\n"
    ask("tag", "team/roses@v2", "--alias", "production")
    ask("tag", "team/roses@v1", "--alias", "production")
    assert ask("show", "team/roses@production")["digest"] == made["bag"], "back to what was before, no new version"
    for arguments, problem in (
        (["notes"], "tag: there is nothing to say"),
        ([made["bag"], "--note", "n"], f"tag: {made['bag']} is no version of a name"),
        (["nots", "--note", "n"], "registry: nothing in"),
        (["notes", "--remove-alias", "c"], "registry: 'notes' has no alias 'c'"),
        (["notes", "--note", "read with hf_" + "aB1" * 10], "tag: there is a secret in what is to be said"),
        ([made["bag"], "new", "--tag", "two words"], "registry: 'two words' cannot be a tag"),
        ([made["bag"], "new", "--alias", "v3"], "registry: the alias 'v3' looks like a version"),
    ):
        ended = bench.command("registry", "tag", *arguments)
        assert (ended.code, ended.err.startswith(problem)) == (2, True), ended.err
    assert bench.command("registry", "show", "new").code == 2, "what is refused leaves nothing behind"


def test_the_history_of_a_name(made: dict[str, str], ask: Ask) -> None:
    ask("tag", "team/roses@v1", "--alias", "production", "--note", "fine")
    newest, first = ask("log", "team/roses")
    assert (newest["number"], newest["digest"], newest["scores"]) == (2, made["bag2"], {"kept": 1.0})
    assert (first["number"], first["aliases"], first["note"], first["step"]) == (1, ["production"], "fine", "bag")
    assert first["run"] < newest["run"]
    lines = ask("log", "team/roses", text=True).splitlines()
    assert lines[1].startswith("v2 ") and lines[2].startswith("v1 ")
    assert lines[2].endswith("@production  kept 2  fine")


def test_two_versions_are_compared(made: dict[str, str], ask: Ask) -> None:
    told = ask("diff", "team/roses@v1", "team/roses@v2")
    assert (told["a"]["digest"], told["b"]["digest"]) == (made["bag"], made["bag2"])
    assert {"step": "bag", "option": "top", "a": 2, "b": 1} in told["parameters"]
    (path,) = [row for row in told["parameters"] if row["option"] == "path"]
    assert path["a"].startswith("text.txt@") and path["a"] != path["b"]
    (data,) = told["data"]
    assert (data["step"], data["a"]["digest"], data["b"]["digest"]) == ("words", made["words"], made["words2"])
    assert told["scores"] == [{"metric": "kept", "a": 2.0, "b": 1.0}]
    assert [row["path"] for row in told["files"]] == ["bag.json"]
    assert (told["steps"], told["packages"]) == ([], [])
    assert "+--set steps.bag.with.top=1" in told["recipe"]
    text = ask("diff", "team/roses@v1", "team/roses@v2", text=True)
    assert "kept" in text and "1 (\N{MINUS SIGN}1)" in text
    assert "they are the same artifact" in ask("diff", "team/roses@v1", made["bag"], text=True)
    kinds = ask("diff", "team/roses@v1", made["note"])
    assert [(row["step"], row["a"]) for row in kinds["steps"]] == [("note", None)]


def test_packages_of_two_runs_are_compared(made: dict[str, str], ask: Ask, bench: Bench) -> None:
    run = ask("show", made["bag2"])["run"]
    file = bench.home / "runs" / f"{run}.json"
    record = json.loads(file.read_text())
    record["environments"]["this"]["click"] = "0.1"
    record["machine"]["python"] = "2.7"
    file.write_text(json.dumps(record))
    packages = ask("diff", "team/roses@v1", "team/roses@v2")["packages"]
    assert [(row["environment"], row["package"], row["b"]) for row in packages] == [
        ("this", "click", "0.1"),
        ("run", "python", "2.7"),
    ]


def test_lineage_is_drawn(made: dict[str, str], ask: Ask, bench: Bench) -> None:
    lines = ask("lineage", made["grades"], text=True).splitlines()
    assert lines[0] == f"grades (evaluate: grade)  report {made['grades'][:12]}"
    assert lines[1] == f"├── bags: bag (train: count)  bag {made['bag'][:12]}"
    assert lines[2] == f"│   └── data: words (format: split)  words {made['words'][:12]}"
    assert lines[3] == f"└── words: words (format: split)  words {made['words'][:12]}"
    out = ask("lineage", made["grades"], "--picture", "lineage.svg", text=True)
    assert out == "lineage.svg\n"
    drawn = ET.fromstring((bench.folder / "lineage.svg").read_text())
    boxes = list(drawn.iter("{http://www.w3.org/2000/svg}g"))
    texts = {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert len(boxes) == 3
    assert {"grades", "bag", "words", "train: count", "team/roses@v1"} <= texts


def test_what_two_steps_share_is_told_once(bench: Bench, ask: Ask) -> None:
    registry = Registry(bench.home)
    digests = [str(number) * 64 for number in range(4)]
    wires = {1: [0], 2: [1], 3: [1, 2]}
    steps = [
        {"name": f"s{at}", "stage": "train", "method": "m", "digest": digests[at]}
        | {"inputs": {"data": [digests[source] for source in wires.get(at, ())]}}
        for at in range(4)
    ]
    registry.write_run("r", {"started": "1", "steps": steps})
    folder = bench.folder / "written"
    folder.mkdir()
    (folder / "a").write_text("a")
    last = registry.put(folder, "bag")
    steps[3]["digest"] = last
    registry.write_run("r", {"started": "1", "steps": steps})
    first, second = ask("lineage", last)["inputs"]["data"]
    assert first["inputs"]["data"][0]["digest"] == digests[0]
    assert second["inputs"]["data"] == [{"digest": digests[1], "kind": None, "as_above": True}]
    lines = ask("lineage", last, text=True).splitlines()
    assert len(lines) == 5 and lines[4].endswith("unknown 111111111111  (as above)")


def test_a_name_a_version_an_alias_and_an_artifact_are_removed(made: dict[str, str], ask: Ask, bench: Bench) -> None:
    ask("tag", "team/roses@v1", "--alias", "production")
    ask("tag", "team/roses@v2", "--alias", "staging")
    before = ask("ls")
    assert ask("rm", "team/roses@staging", text=True).splitlines() == [
        "would remove team/roses@staging",
        "--yes does it",
    ]
    assert ask("rm", "team/roses@v1")["removed"] == ["team/roses@v1", "team/roses@production"]
    (left,) = ask("rm", "team/roses@v1")["artifacts"]
    assert (left["digest"], left["bases"]) == (made["bag"], [made["note"]])
    assert ask("ls") == before, "so far it was only told"
    assert ask("rm", "team/roses@staging", "--yes")["done"] is True
    assert ask("log", "team/roses")[0]["aliases"] == []
    ended = bench.command("registry", "rm", made["bag"][:12], "--yes")
    assert (ended.code, "is needed" in ended.err) == (2, True)
    assert made["note"][:12] in ended.err, "it sits on it"
    ask("rm", "team/roses@v1", "--yes")
    ask("rm", made["note"], "--yes")
    gone = ask("rm", made["bag"], "--yes")
    assert gone["users"] == [made["grades"]]
    assert found(ask) == set(made.values()) - {made["bag"], made["note"]}
    assert ask("rm", "team/roses", "--yes")["removed"] == ["team/roses@v2"]
    assert ask("tag", made["bag2"], "team/roses")["version"] == 3
    assert ask("verify") == []
    bench.write(RECIPE)
    (bench.folder / "text.txt").write_text("a rose is a rose is a rose")
    run = bench.command("run", "recipe.yaml", "--json").json
    assert {step["name"]: step["digest"] for step in run["steps"]}["bag"] == made["bag"], "made again, as it was"


def test_the_rest_speaks_json_too(made: dict[str, str], ask: Ask) -> None:
    assert ask("reindex").items() >= {"artifacts": len(set(made.values())), "versions": 2}.items()
    assert ask("reindex", text=True).startswith(f"{len(set(made.values()))} artifacts and 2 versions of names indexed")
    assert Path(ask("path", "team/roses")["path"], "bag.json").exists()
    kept = ask("gc", "--days", "0")
    assert kept["done"] is False and {item["what"] for item in kept["garbage"]} >= {"artifact", "blob"}


def test_a_name_from_elsewhere_cannot_write_to_the_terminal(bench: Bench, ask: Ask, tmp_path: Path) -> None:
    registry = Registry(bench.home)
    folder = tmp_path / "written"
    folder.mkdir()
    (folder / "a\x1b[31m").write_text("x")
    digest = registry.put(folder, "odd\x1b[2J")
    for command in ("ls", "show", "lineage"):
        arguments = [command] if command == "ls" else [command, digest]
        assert "\x1b" not in ask(*arguments, text=True)
