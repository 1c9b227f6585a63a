"""A recorded recipe run again from nothing: the same bytes, or what is otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.bench import Bench, step_of
from tuneforge.environments import closure
from tuneforge_registry import Registry

RECIPE = """seed: 3
vars: {most: 2}
steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: count, data: [words], with: {top: "${most}"}, as: team/roses}
  grades: {evaluate: grade, bags: [bag]}
  shared: {publish: share, bag: bag, with: {to: shared.json}}
  late: {train: patient, words: words}
"""
ODD = """
import os
from tuneforge import Artifact, Train, hookimpl

class Chance(Artifact):
    kind = "chance"

class Draw(Train):
    \"\"\"Draws lots.\"\"\"
    name = "draw"
    output = Chance

    def run(self, step):
        (step.out / "lot").write_bytes(os.urandom(8))

class Keep(Train):
    \"\"\"Keeps what it is given.\"\"\"
    name = "keep"
    output = Chance

    def run(self, lot: Chance, step):
        (step.out / "lot").write_bytes((lot.path / "lot").read_bytes() * 2)

@hookimpl
def register_train():
    return [Draw, Keep]
"""
Reproduce = Callable[..., Any]
pytestmark = pytest.mark.slow


@pytest.fixture
def reproduce(bench: Bench) -> Reproduce:
    def command(*arguments: str) -> Any:
        return bench.command("registry", "reproduce", "--with-present-packages", *arguments)

    return command


def edit_record(bench: Bench, run: str, edit: Callable[[dict[str, Any]], object]) -> None:
    file = bench.home / "runs" / f"{run}.json"
    record = json.loads(file.read_text())
    edit(record)
    file.write_text(json.dumps(record))


def test_the_same_recipe_gives_the_same_bytes(bench: Bench, reproduce: Reproduce) -> None:
    bench.write(RECIPE)
    made = bench.command("run", "recipe.yaml", "--json", "--set", "steps.words.with.path=text.txt").json
    (bench.folder / "recipe.yaml").write_text("what is recorded counts, not what is there now")
    before = sorted(path for path in bench.home.rglob("*") if "tmp" not in path.parts and "locks" not in path.parts)
    told = reproduce("team/roses", "--json").json
    assert (told["same"], told["run"], told["told"]) == (True, made["run"], [])
    assert [(step["step"], step["then"] == step["now"]) for step in told["steps"]] == [("words", True), ("bag", True)]
    after = sorted(path for path in bench.home.rglob("*") if "tmp" not in path.parts and "locks" not in path.parts)
    new = {path.relative_to(bench.home).parts[0] for path in {*after} - {*before}}
    assert new <= {"envs", "index.sqlite"}, "the registry is as it was"
    assert not any((bench.home / "tmp").iterdir())
    text = reproduce("team/roses")
    assert (text.code, text.out.splitlines()[-1]) == (0, "all 2 steps give the same bytes")


def test_a_release_is_written_aside(bench: Bench, reproduce: Reproduce) -> None:
    bench.write(RECIPE)
    made = bench.command("run", "recipe.yaml", "--json").json
    (bench.folder / "shared.json").write_text("of today")
    told = reproduce(step_of(made, "shared")["digest"], "--in", "again", "--json").json
    assert told["same"] is True
    assert [step["step"] for step in told["steps"]] == ["words", "bag", "shared"]
    assert (bench.folder / "shared.json").read_text() == "of today"
    fresh = Registry(bench.folder / "again")
    assert len(fresh.artifacts()) == 3
    assert fresh.verify() == []
    assert reproduce("team/roses", "--in", "again").err.startswith("--in: again is not empty")


def test_what_is_published_to_others_is_not_published_again(bench: Bench, reproduce: Reproduce) -> None:
    plugin = ODD.replace("import Artifact, Train, hookimpl", "import Artifact, Publish, Train, hookimpl").replace(
        "@hookimpl",
        """
class Shout(Publish):
    \"\"\"Tells everyone.\"\"\"
    name = "shout"

    def run(self, lot: Chance, step):
        (step.out / "receipt.json").write_text("{}")

@hookimpl
def register_publish():
    return [Shout]

@hookimpl""",
    )
    (bench.folder / "odd.py").write_text(plugin)
    (bench.folder / "r.yaml").write_text(
        "plugins: [odd.py]\n"
        "steps: {lot: {train: draw}, told: {publish: shout, lot: lot}, kept: {train: keep, lot: lot}}\n"
    )
    made = bench.command("run", "r.yaml", "--json").json
    ended = reproduce(step_of(made, "told")["digest"])
    assert (ended.code, ended.err) == (
        2,
        "step told: publish: shout publishes where others see it, which is done once\n"
        "    Reproduce what it has published: lot.\n",
    )
    ended = reproduce(step_of(made, "kept")["digest"], "--json")
    assert (ended.code, ended.json["same"]) == (1, False)
    assert [(step["step"], step["same"]) for step in ended.json["steps"]] == [("lot", False), ("kept", False)]
    assert "2 of 2 steps differ; the first is lot" in reproduce(step_of(made, "kept")["digest"]).out
    (bench.folder / "odd.py").write_text(plugin + "\n# more\n")
    ended = reproduce(step_of(made, "kept")["digest"])
    assert ended.code == 2
    assert "step lot: the code of its plugin has changed since: it was " in ended.err


def test_data_that_changed_is_named(bench: Bench, reproduce: Reproduce) -> None:
    bench.write(RECIPE)
    bench.run(RECIPE)
    (bench.folder / "text.txt").write_text("a lily")
    ended = reproduce("team/roses")
    assert ended.code == 2
    assert "step words: path: text.txt has changed since: it was " in ended.err
    (bench.folder / "text.txt").unlink()
    ended = reproduce("team/roses")
    assert (ended.code, "there is no file" in ended.err) == (2, True)


def test_what_came_from_the_registry_is_given_again(bench: Bench, reproduce: Reproduce) -> None:
    bench.run(RECIPE)
    bench.run(RECIPE.replace("most: 2", "most: 1"))
    registry = Registry(bench.home)
    registry.point("team/roses", 1, "production")
    old, new = (registry.resolve(f"team/roses@v{number}") for number in (1, 2))
    steps = (
        'note: {align: remark, bag: "registry:team/roses@production"}\n'
        "  end: {align: remark, bag: note, as: end, with: {text: done}}"
    )
    record = bench.run(f"steps:\n  {steps}\n  other: {{align: remark, bag: registry:{new[:12]}}}\n")
    assert step_of(record, "note")["inputs"]["bag"] == [old]
    registry.point("team/roses", 2, "production")
    told = reproduce("end", "--json", "--in", "again").json
    assert (told["same"], [step["step"] for step in told["steps"]]) == (True, ["note", "end"])
    fresh = Registry(bench.folder / "again")
    assert fresh.resolve("team/roses@production") == old
    assert list(fresh.names()["team/roses"].versions) == [1]


def test_references_to_what_has_other_names_by_now(bench: Bench, reproduce: Reproduce) -> None:
    bench.run(RECIPE)
    registry = Registry(bench.home)
    digest, other = registry.resolve("team/roses"), registry.resolve(step_of(bench.run(RECIPE), "words")["digest"])
    registry.tag("team/roses", other)
    registry.tag("team/roses", digest)
    registry.tag("team/roses", other)
    registry.tag("team/roses", digest)
    for ref in ("team/roses@v3", "team/roses@v1", "team/roses"):
        bench.run(f'steps:\n  note: {{align: remark, bag: "registry:{ref}", as: end, with: {{text: "{ref}"}}}}\n')
        registry.tag("team/roses", other)
        assert reproduce("end", "--json").json["same"] is True
        registry.tag("team/roses", digest)
    registry.remove_name("team/roses")
    assert reproduce("end", "--json").json["same"] is True


def test_a_record_cannot_tell_the_installer_anything_else(bench: Bench) -> None:
    made = bench.run(RECIPE)
    evil = "pluggy @ https://example.org/evil-1-py3-none-any.whl #"
    edit_record(bench, made["id"], lambda record: record["environments"]["this"].update({evil: "1", "pluggy": "1.5.0"}))
    ended = bench.command("registry", "reproduce", "team/roses")
    assert (ended.code, "which cannot be one" in ended.err) == (2, True)


def test_a_cached_step_is_made_again_too(bench: Bench, reproduce: Reproduce) -> None:
    bench.run(RECIPE)
    bench.run(RECIPE.replace("top:", "rate: 0.5, top:"))
    told = reproduce("team/roses", "--json").json
    assert [(step["step"], step["same"]) for step in told["steps"]] == [("words", True), ("bag", True)]


def test_what_no_recipe_made_cannot_be_made_again(bench: Bench, reproduce: Reproduce, tmp_path: Path) -> None:
    bench.run(RECIPE)
    folder = tmp_path / "written"
    shutil.copytree(Registry(bench.home).tree(Registry(bench.home).resolve("team/roses")), folder)
    (folder / "more").write_text("x")
    digest = Registry(bench.home).put(folder, "bag")
    ended = reproduce(digest)
    assert (ended.code, ended.err.splitlines()[0]) == (2, f"no recorded run has made {digest[:12]}")


def test_other_versions_are_told(bench: Bench, reproduce: Reproduce) -> None:
    made = bench.run(RECIPE)

    def edit(record: dict[str, Any]) -> None:
        record["environments"]["this"] |= {"pluggy": "1.5.0", "of-no-step": "1"}
        record["machine"]["python"] = "3.0.1"
        record["tuneforge"] = "0.0.1"
        record["steps"][1]["version"] = 7

    edit_record(bench, made["id"], edit)
    told = reproduce("team/roses", "--json").json
    assert told["same"] is True
    problems = [finding["problem"] for finding in told["told"]]
    assert [problem.partition(" then")[0] for problem in problems] == [
        "python was 3.0.1",
        "count was of version 7",
        "tuneforge was 0.0.1",
        "pluggy was 1.5.0",
    ]
    assert problems[-1].endswith(" is used")


@pytest.mark.network
def test_an_environment_is_made_with_the_versions_of_then(bench: Bench) -> None:
    made = bench.run(RECIPE)
    edit_record(bench, made["id"], lambda record: record["environments"]["this"].update(pluggy="1.5.0"))
    ended = bench.command("registry", "reproduce", "team/roses", "--in", "again")
    assert ended.code == 0, ended.err
    assert "pluggy was 1.5.0 then; " in ended.err
    (run,) = Registry(bench.folder / "again").runs().values()
    (environment,) = run["environments"].values()
    assert environment["pluggy"] == "1.5.0"
    assert environment["pydantic"] == made["environments"]["this"]["pydantic"]
    assert {step["environment"] for step in run["steps"] if step["status"] == "done"} == set(run["environments"])
    assert (bench.home / "envs").is_dir(), "kept where the next one finds it"


@pytest.mark.network
def test_versions_that_are_not_to_be_had_any_more(bench: Bench) -> None:
    made = bench.run(RECIPE)
    edit_record(bench, made["id"], lambda record: record["environments"]["this"].update(pluggy="0.0.0.1"))
    ended = bench.command("registry", "reproduce", "team/roses")
    assert ended.code == 2
    assert "step words: the environment could not be made: " in ended.err
    assert ended.err.endswith("    --with-present-packages does with the versions that are here.\n")


def test_the_packages_that_count_are_those_that_needs_bring() -> None:
    names = closure(("click>=8",))
    assert {"click", "pydantic", "pydantic_core", "pluggy", "packaging"} <= names
    assert "pytest" not in names
