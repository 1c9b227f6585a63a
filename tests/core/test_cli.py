"""The command line: what it imports, how it ends, and what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.bench import Bench, step_of
from tuneforge import console
from tuneforge.recipe import recipe_folders

RECIPE = """steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: count, data: [words], with: {top: 2}, as: roses}
  note: {align: remark, bag: bag}
"""
SHIPPED = {path.stem: path.read_text() for folder in recipe_folders() for path in folder.glob("*.yaml")}
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "trl",
    "peft",
    "pyarrow",
    "numpy",
    "pandas",
    "tokenizers",
    "huggingface_hub",
}
UNASKED = {"rich", "asyncio", "ssl", "http", "sqlite3", "filelock", "multiprocessing", "tarfile"}
"""What only a run, a download or a live table needs."""


def imported(*arguments: str) -> set[str]:
    """The top packages that a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", "tuneforge.cli", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return {line.split("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines() if line.count("|") == 2}


def test_help_imports_next_to_nothing() -> None:
    modules = imported("--help")
    assert "click" in modules
    assert not modules & {*HEAVY, *UNASKED, "pydantic", "pluggy", "yaml", "tuneforge_registry"}


@pytest.mark.parametrize("name", SHIPPED)
def test_plan_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    modules = imported("--home", str(tmp_path), "plan", name)
    assert "pydantic" in modules
    # Which commit a branch of the Hub is, its own library must be asked.
    asked = {"huggingface_hub", *UNASKED} if "load_model: hub" in SHIPPED[name] else set()
    assert not modules & ((HEAVY | UNASKED) - asked)


def test_plugins_and_schema_import_nothing_heavy() -> None:
    assert not imported("plugins") & HEAVY
    assert not imported("schema") & HEAVY


@pytest.mark.parametrize("command", [["ls"], ["show", "roses"], ["lineage", "roses"], ["log", "roses"]])
def test_questions_to_the_registry_import_no_more_than_they_need(bench: Bench, command: list[str]) -> None:
    bench.run(RECIPE)
    for folder in ("manifests", "runs", "refs/roses"):  # as if that were long ago, and the index knew of it
        os.utime(bench.home / folder, (1, 1))
    assert bench.command("registry", "ls").code == 0
    modules = imported("--home", str(bench.home), "registry", *command)
    assert "sqlite3" in modules
    assert not modules & {*HEAVY, *UNASKED - {"sqlite3"}, "pydantic", "pluggy", "yaml"}


def test_help_names_every_command(bench: Bench) -> None:
    ended = bench.command("--help")
    assert ended.code == 0
    for command in ("run", "plan", "report", "schema", "plugins", "registry"):
        assert re.search(rf"^  {command}  ", ended.out, re.M)
        assert bench.command(command, "--help").code == 0
    assert "verify" in bench.command("registry", "--help").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan"], "Missing argument 'RECIPE'"),
        (["plan", "no-such-recipe"], "command line: there is no recipe called no-such-recipe"),
        (["plan", "nowhere.yaml"], "nowhere.yaml: there is no recipe nowhere.yaml"),
        (["plan", "recipe.yaml", "--set", "x"], "--set x: error: not of the form key.key=value"),
        (["plan", "recipe.yaml", "--until", "bagg"], "--until: there is no step bagg\n    Did you mean bag?"),
        (["run", "recipe.yaml", "--threads", "0"], "Invalid value for '--threads'"),
        (
            ["run", "recipe.yaml", "--set", "steps.bag.with.top=0"],
            "top: input should be greater than or equal to 1, not 0",
        ),
        (["rum"], "No such command 'rum'"),
        (["plugins", "train.sff"], "there is no method train.sff\n    Did you mean train.sft?"),
        (["registry", "show", "nothing"], "registry: nothing in "),
        (["registry", "shaw"], "No such command 'shaw'"),
    ],
)
def test_a_wrong_command_ends_with_2_and_says_why(bench: Bench, arguments: list[str], message: str) -> None:
    bench.write(RECIPE)
    ended = bench.command(*arguments)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert not bench.home.exists()


def test_debug_shows_where_an_error_comes_from_and_ends_alike(bench: Bench) -> None:
    ended = bench.command("--debug", "plan", "nowhere.yaml")
    assert ended.code == 2
    assert "Traceback" in ended.err


def test_a_plan_is_shown_step_by_step(bench: Bench) -> None:
    bench.write(RECIPE)
    ended = bench.command("plan", "recipe.yaml")
    assert (ended.code, ended.err) == (0, "")
    words, bag, note = ended.out.splitlines()[2:]
    assert words.split()[:5] == ["words", "format:", "split", "words", "run"]
    assert "waits for words" in bag
    assert "waits for bag" in note


def test_in_a_terminal_the_notes_of_a_plan_keep_to_their_column(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(RECIPE)
    whole = bench.command("plan", "recipe.yaml").out
    monkeypatch.setattr(console, "_is_terminal", lambda stream: True)
    assert bench.command("plan", "recipe.yaml", COLUMNS="200").out == whole
    lines = bench.command("plan", "recipe.yaml", COLUMNS="70").out.splitlines()
    assert max(map(len, lines)) <= 70
    start = lines[2].index("new, or")
    assert lines[3][:start].isspace() and lines[3][start:].strip()


def test_places_are_told_as_they_are_written(bench: Bench) -> None:
    bench.write("#\n" * 98 + "'[red]': x\nsteps: {a: {load_model: builtin}}\n")
    ended = bench.command("plan", "recipe.yaml")
    assert ended.err.startswith("recipe.yaml:100:1: error: a recipe has no key [red]\n")
    assert "\x1b" in bench.command("plan", "recipe.yaml", FORCE_COLOR="1").err


def test_a_run_in_a_pipe_is_plain_lines_with_the_scores_side_by_side(bench: Bench) -> None:
    bench.write(
        RECIPE
        + "  small: {train: count, data: [words], with: {top: 1}}\n  scores: {evaluate: grade, bags: [bag, small]}\n"
    )
    ended = bench.command("run", "recipe.yaml", "--set", "steps.words.with.clean.drop='?'")
    assert ended.code == 0, "a warning does not stop a run"
    assert "--set steps.words.with.clean.drop: warning: a question mark is no letter\n    Name letters." in ended.err
    assert re.fullmatch(r"words: done \d+\.\d s [0-9a-f]{12}", ended.out.splitlines()[0])
    assert "\x1b" not in ended.out + ended.err
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["bag", "2"] in lines, "under the names of the steps"
    assert ["small", "1"] in lines


def test_plugins_lists_and_describes(bench: Bench) -> None:
    listed = bench.command("plugins", "--json").json
    assert {"load_model.builtin", "train.sft"} <= {f"{method['stage']}.{method['name']}" for method in listed}
    for method in listed:
        assert method["summary"] and method["plugin"]
        assert all(option["description"] for option in method["options"])
    assert all(f"{method['stage']}.{method['name']}" in bench.command("plugins").out for method in listed)
    one = bench.command("plugins", "load_model.builtin", "--json").json
    assert one == next(method for method in listed if method["name"] == "builtin")
    page = bench.command("plugins", "train.sft").out
    for method in listed:
        if method["name"] == "sft":
            assert all(
                option["name"] in page and option["description"].split()[0] in page for option in method["options"]
            )
            assert all(wanted["name"] in page for wanted in method["inputs"])
    assert bench.command("plugins", "sft").out == page, "the stage may be left out where that is plain"


def test_the_registry_is_looked_at(bench: Bench) -> None:
    bench.write(RECIPE)
    run = bench.command("run", "recipe.yaml", "--json").json
    digest = {step["name"]: step["digest"] for step in run["steps"]}
    listed = bench.command("registry", "ls", "--json").json
    assert {stored["digest"] for stored in listed} == set(digest.values())
    assert bench.command("registry", "ls", "--kind", "bag", "--json").json[0]["names"] == ["roses@v1"]
    assert "roses@v1" in bench.command("registry", "ls").out

    shown = bench.command("registry", "show", "roses", "--json").json
    assert (shown["digest"], shown["kind"], shown["made_by"]["name"]) == (digest["bag"], "bag", "bag")
    assert list(shown["files"]) == ["bag.json"]
    assert "made by step bag (train: count)" in bench.command("registry", "show", digest["bag"][:8]).out
    assert f"sits on {digest['bag']}" in bench.command("registry", "show", digest["note"]).out

    lineage = bench.command("registry", "lineage", digest["note"], "--json").json
    assert lineage["inputs"]["bag"][0]["inputs"]["data"][0]["digest"] == digest["words"]
    assert "words (format: split)" in bench.command("registry", "lineage", "roses").out

    assert (
        bench.command("registry", "tag", digest["note"], "remarks", "--alias", "production").out
        == "remarks@v1 @production\n"
    )
    folder = Path(bench.command("registry", "path", "remarks@production").out.strip())
    assert (folder / "note.txt").read_text() == "fine"
    assert bench.command("registry", "gc", "--days", "0").out.startswith("artifact ")
    assert bench.command("registry", "gc", "--days", "0", "--yes").code == 0
    assert {stored["kind"] for stored in bench.command("registry", "ls", "--json").json} == {"bag", "note"}


def test_a_name_in_a_namespace_is_given_and_read_by_recipes(bench: Bench) -> None:
    bench.write(RECIPE.replace("as: roses", "as: team/roses"))
    assert bench.command("run", "recipe.yaml").code == 0
    assert bench.command("registry", "ls", "--kind", "bag", "--json").json[0]["names"] == ["team/roses@v1"]
    assert bench.command("registry", "tag", "team/roses", "team/roses", "--alias", "production").code == 0
    record = bench.run('steps:\n  note: {align: remark, bag: "registry:team/roses@production"}\n')
    assert step_of(record, "note")["inputs"]["bag"] == [
        bench.command("registry", "show", "team/roses", "--json").json["digest"]
    ]
    refused = bench.write("steps:\n  bag: {format: split, with: {path: text.txt}, as: team/v2}\n", "refused.yaml")
    assert "'team/v2' is no name for the registry" in bench.command("plan", str(refused)).err


def test_damage_is_told_and_ends_with_1(bench: Bench) -> None:
    bench.write(RECIPE)
    run = bench.command("run", "recipe.yaml", "--json").json
    assert bench.command("registry", "verify").out == "everything is as it was committed\n"
    shown = bench.command("registry", "show", "roses", "--json").json
    blob = bench.home / "blobs" / (sha := shown["files"]["bag.json"]["sha256"])[:2] / sha
    blob.chmod(0o644)
    blob.write_text(json.dumps({"other": 1})[: blob.stat().st_size].ljust(blob.stat().st_size))
    ended = bench.command("registry", "verify")
    assert ended.code == 1
    assert "roses" in ended.out
    assert step_of(run, "bag")["digest"][:12] in ended.out
