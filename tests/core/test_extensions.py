"""Extensions add steps to recipes, visibly, and can be switched off."""

from __future__ import annotations

import pytest

from tests.core.bench import Bench, step_of, told
from tuneforge.console import show_plan
from tuneforge.errors import PluginError
from tuneforge.recipe import read_recipe

PLUGIN = '''"""Every bag is graded."""
from tuneforge import Addition, Extension, Field, hookimpl


class Graded(Extension):
    """A grade for each bag."""

    name = "graded"

    least: int = Field(1, description="How many words there must be.")

    def extend(self, steps, kinds):
        shares = [name for name, spec in steps.items() if spec.kind.stage == "publish"]
        for name, spec in steps.items():
            if name in kinds and kinds[name].kind == "bag" and spec.kind.stage == "train":
                BODY


@hookimpl
def register_extension():
    return [Graded]
'''
ADDS = 'yield Addition(name, "grade", "evaluate", "grade", {"bags": [name]}, {"least": self.least})'
RECIPE = """steps:
  words: {format: split, with: {path: text.txt}}
  bag:   {train: count, data: [words]}
  all:   {evaluate: grade, bags: [bag]}
"""


@pytest.fixture
def graded(bench: Bench) -> Bench:
    return with_plugin(bench, ADDS)


def with_plugin(bench: Bench, body: str) -> Bench:
    (bench.folder / "graded.py").write_text(PLUGIN.replace("BODY", body))
    before = bench.write

    def write(text: str, name: str = "recipe.yaml") -> object:
        path = before(text, name)
        path.write_text(path.read_text().replace("]\n", ", graded.py]\n", 1))
        return path

    bench.write = write  # type: ignore[method-assign,assignment]
    return bench


def test_its_steps_are_planned_and_shown(graded: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    plan = graded.plan(RECIPE)
    assert [*plan.steps] == ["words", "bag", "bag.grade", "all"]
    show_plan(plan)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("bag.grade")]
    assert "added by graded" in line
    assert {step.name: step.spec.marks() for step in plan.steps.values()}["bag.grade"] == {"added_by": "graded"}


def test_they_are_carried_out_and_cached_like_any_other(graded: Bench) -> None:
    record = graded.run(RECIPE)
    assert step_of(record, "bag.grade")["status"] == "done"
    assert step_of(record, "bag.grade")["added_by"] == "graded"
    assert {step["status"] for step in graded.run(RECIPE)["steps"]} == {"cached"}
    # A step that is written so has the same key.
    written = RECIPE + "  mine: {evaluate: grade, bags: [bag], with: {least: 1}}\n"
    assert step_of(graded.run(written, "extensions.graded=false"), "mine")["status"] == "cached"


def test_options_and_switching_off(graded: Bench) -> None:
    assert graded.plan(RECIPE, "extensions.graded.least=7").steps["bag.grade"].method.model_dump()["least"] == 7
    assert "bag.grade" not in graded.plan(RECIPE, "extensions.graded=false").steps
    assert "bag.grade" not in graded.plan("extensions: {graded: false}\n" + RECIPE).steps
    problems = "\n".join(told(graded.plan("extensions: {graded: {leest: 2}, gradde: {}}\n" + RECIPE).findings))
    assert "graded has no option leest" in problems and "Did you mean least?" in problems
    assert "no installed plugin offers an extension gradde" in problems and "Did you mean graded?" in problems


def test_part_of_a_plan(graded: Bench) -> None:
    plan = graded.plan(RECIPE, until="bag.grade")
    assert {name: step.status for name, step in plan.steps.items()}["all"] == "skipped"
    plan = graded.plan(RECIPE, until="bag")
    assert plan.steps["bag.grade"].status == "skipped"


def test_repeats_are_graded_each(graded: Bench) -> None:
    swept = RECIPE.replace("data: [words]}", "data: [words], each: {top: [1, 2]}}")
    plan = graded.plan(swept)
    assert [*plan.steps] == ["words", "bag@top=1", "bag@top=1.grade", "bag@top=2", "bag@top=2.grade", "all"]
    marks = plan.steps["bag@top=2.grade"].spec.marks()
    assert marks == {"of": "bag.grade", "each": {"top": 2}, "added_by": "graded"}
    assert [*graded.plan(swept, until="bag.grade").recipe.repeats] == ["bag", "bag.grade"]


def test_written_steps_are_wired_to_them(bench: Bench) -> None:
    body = 'yield Addition(name, "note", "align", "remark", {"bag": [name]}, {"whole": True}, into=[("all", "bags")])'
    plan = with_plugin(bench, body).plan(RECIPE)
    assert plan.recipe.steps["all"].inputs == {"bags": ["bag", "bag.note"]}
    assert [*plan.steps] == ["words", "bag", "bag.note", "all"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (ADDS.replace('"evaluate", "grade"', '"evaluate", "graid"'), "no installed plugin offers evaluate: graid"),
        (ADDS.replace('"least"', '"leest"'), "grade has no option leest"),
        ("raise ValueError('oh')", "the extension graded failed: ValueError: oh"),
    ],
)
def test_an_extension_that_breaks_is_named(bench: Bench, body: str, problem: str) -> None:
    with pytest.raises(PluginError, match="extension graded") as failed:
        with_plugin(bench, body).plan(RECIPE)
    assert problem in str(failed.value)


def test_one_that_breaks_the_contract_is_refused(bench: Bench) -> None:
    (bench.folder / "graded.py").write_text(
        PLUGIN.replace("BODY", ADDS).replace('    """A grade for each bag."""\n', "")
    )
    path = bench.write(RECIPE)
    path.write_text(path.read_text().replace("]\n", ", graded.py]\n", 1))
    assert "Graded has no docstring" in "".join(told(read_recipe(path).problems))


def test_a_plan_in_json_tells_who_added_a_step(graded: Bench) -> None:
    path = graded.write(RECIPE)
    document = graded.command("plan", str(path), "--json").json
    assert {step["name"]: step.get("added_by") for step in document["steps"]}["bag.grade"] == "graded"
