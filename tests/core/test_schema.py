"""The JSON schema by which editors check recipes: it takes what the core takes, and refuses a slip of the pen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from tests.core.bench import TOYS, Bench
from tuneforge.documents import Document
from tuneforge.plugins import Plugins
from tuneforge.recipe import recipe_folders
from tuneforge.schema import recipe_schema

RECIPE = """name: roses
description: Words, counted.
seed: 3
vars: {top: 2, text: text.txt}
plugins: [toys.py]
trackers: {tensorboard: {folder: logs}, wandb: {mode: offline, project: "${text}"}, mlflow: , trackio: false}
steps:
  words: {format: split, with: {path: "${text}", limit: 3, clean: {lower: true}}}
  bag: {train: count, data: [words], with: {top: "${top}", rate: 5e-1}, as: roses}
  note: {align: remark, bag: "registry:roses@v1"}
  grade: {evaluate: grade, bags: [bag, note], words: words}
  doom: {train: doom, with: {how: kill}}
"""

REPEATED = """vars: {tops: [1, 2], low: 3, letters: b}
plugins: [toys.py]
steps:
  words: {format: split, with: {clean: {drop: a}}, each: {path: [text.txt, other.txt], clean.lower: [true, "${low}"]}}
  bag: {train: count, data: [words], with: {top: 3}, each: {top: "${tops}"}}
  note: {align: remark, bag: bag, each: [{text: fine, whole: true}, {text: "${letters}"}]}
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    plugins = Plugins()
    plugins.load_local(str(TOYS), Path())
    return recipe_schema(plugins)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Any]:
    def data(text: str) -> Any:
        (tmp_path / "loaded.yaml").write_text(text)
        return Document(tmp_path / "loaded.yaml").data

    return data


def test_the_schema_is_a_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


def test_it_takes_a_right_recipe(schema: dict[str, Any], bench: Bench, load: Callable[[str], Any]) -> None:
    Draft202012Validator(schema).validate(load(RECIPE))
    assert not bench.read(RECIPE.replace("plugins: [toys.py]\n", "")).problems


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("seed:", "sead:"),
        ("seed: 3", "seed: three"),
        ("seed: 3", "seed: -1"),
        ("limit:", "limitt:"),
        ("limit: 3", "limit: many"),
        ("limit: 3", "limit: -1"),
        ("lower:", "lowercase:"),
        ('path: "${text}", ', ""),
        (", with: {how: kill}", ""),
        ("how: kill", "how: laugh"),
        ("train: count", "train: coutn"),
        ("train: count", "trian: count"),
        ("data:", "dta:"),
        ("data: [words], ", ""),
        ("bags: [bag, note], ", "bags: [], "),
        ("as: roses", "az: roses"),
        ("as: roses", "as: Big Roses"),
        ("align: remark", "align: remark, train: count"),
        ("  note:", "  a note:"),
        ("trackers:", "tracker:"),
        ("tensorboard:", "tensorbord:"),
        ("folder: logs", "folda: logs"),
        ("mode: offline", "mode: sometimes"),
        ("trackio: false", "trackio: 3"),
    ],
)
def test_it_refuses_a_slip_of_the_pen(
    schema: dict[str, Any], bench: Bench, load: Callable[[str], Any], right: str, wrong: str
) -> None:
    recipe = RECIPE.replace(right, wrong)
    assert recipe != RECIPE
    assert not Draft202012Validator(schema).is_valid(load(recipe))
    assert bench.read(recipe.replace("plugins: [toys.py]\n", "")).problems, "and so does the core"


def test_it_takes_repeats(schema: dict[str, Any], bench: Bench, load: Callable[[str], Any]) -> None:
    Draft202012Validator(schema).validate(load(REPEATED))
    recipe = REPEATED.replace("plugins: [toys.py]\n", "").replace("low: 3", "low: false")
    assert not bench.read(recipe).problems


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("{path: [text.txt, other.txt], clean.lower: ", "{clean.lower: "),
        ("clean.lower:", "lower:"),
        ("clean.lower: [true, ", "clean.lower: [3, "),
        ("clean.lower: [true, ", "clean.lower: [true, true, "),
        ("clean: {drop: a}", "claen: {drop: a}"),
        ("path: [text.txt, other.txt]", "path: []"),
        ("path: [text.txt, other.txt]", "path: text.txt"),
        ("with: {top: 3}", "with: {tpo: 3}"),
        ('each: {top: "${tops}"}', "each: {}"),
        ('each: {top: "${tops}"}', "each: 3"),
        ("text: fine", "txt: fine"),
        ("{text: fine, whole: true}", "{}"),
        ("whole: true", "whole: 7"),
        ("bag: bag,", ""),
    ],
)
def test_it_refuses_a_slip_in_repeats(
    schema: dict[str, Any], bench: Bench, load: Callable[[str], Any], right: str, wrong: str
) -> None:
    recipe = REPEATED.replace(right, wrong, 1)
    assert recipe != REPEATED
    if "path" not in right or "path" in wrong:
        assert not Draft202012Validator(schema).is_valid(load(recipe))
    recipe = recipe.replace("plugins: [toys.py]\n", "").replace("low: 3", "low: false")
    assert bench.read(recipe).problems, "and so does the core"


def test_variables_stand_inside_of_lists_too(bench: Bench, load: Callable[[str], Any]) -> None:
    (bench.folder / "listed.py").write_text("""from tuneforge import Field, Report, Step, Format, hookimpl
class Listed(Format):
    "Lists."
    name = "listed"
    output = Report
    numbers: list[float] | None = Field(None, description="Some.")
    pair: tuple[int, float] = Field((1, 2.0), description="Two.")
    counts: dict[str, int] = Field({}, description="By name.")
    def run(self, step: Step) -> None: ...
@hookimpl
def register_format(): return [Listed]
""")
    plugins = Plugins()
    plugins.load_local("listed.py", bench.folder)
    schema = recipe_schema(plugins)
    recipe = (
        "vars: {v: 3}\nplugins: [listed.py]\nsteps:\n"
        '  a: {format: listed, with: {numbers: ["${v}", 0.5], pair: ["${v}", "${v}"], counts: {some: "${v}"}}}\n'
    )
    Draft202012Validator(schema).validate(load(recipe))
    (bench.folder / "r.yaml").write_text(recipe)
    assert bench.command("plan", "r.yaml").code == 0, "as the core does"
    assert not Draft202012Validator(schema).is_valid(load(recipe.replace("0.5", "half")))


@pytest.mark.parametrize("launch", ['{processes: "${n}", in-turn: {part: "${part}"}}', "{processes: 2, abreast: }"])
def test_it_takes_a_launch(launch: str, schema: dict[str, Any], bench: Bench, load: Callable[[str], Any]) -> None:
    recipe = f"""vars: {{n: 2, part: line}}
steps:
  words: {{format: split, with: {{path: text.txt}}}}
  song: {{train: choir, words: words, launch: {launch}}}
"""
    Draft202012Validator(schema).validate(load(recipe))
    assert not bench.read(recipe).problems, "as the core does"
    assert not Draft202012Validator(schema).is_valid(load(recipe.replace("processes:", "proceses:")))


def test_an_editor_is_told_the_option_that_is_wrong(schema: dict[str, Any], load: Callable[[str], Any]) -> None:
    error = best_match(Draft202012Validator(schema).iter_errors(load(RECIPE.replace("rate:", "rte:"))))
    assert error
    assert "rte" in error.message


def test_every_option_has_its_description_and_default(schema: dict[str, Any]) -> None:
    options = schema["$defs"]["Count"]["properties"]
    (option,) = (entry for entry in options["top"]["anyOf"] if "$ref" not in entry)
    assert option["description"] == "How many words to keep."
    assert option["default"] == 3


def test_two_plugins_may_call_their_blocks_alike(bench: Bench, load: Callable[[str], Any]) -> None:
    (bench.folder / "other.py").write_text("""from tuneforge import Field, Report, Step, Format, hookimpl
from tuneforge.stages import Config
class Clean(Config):
    strict: bool = Field(False, description="Be strict.")
class Sweep(Format):
    "Sweeps."
    name = "sweep"
    output = Report
    clean: Clean = Field(Clean(), description="How.")
    def run(self, step: Step) -> None: ...
@hookimpl
def register_format(): return [Sweep]
""")
    plugins = Plugins()
    plugins.load_local(str(TOYS), Path())
    plugins.load_local("other.py", bench.folder)
    validator = Draft202012Validator(recipe_schema(plugins))
    assert validator.is_valid(load("steps: {a: {format: split, with: {path: x, clean: {lower: true}}}}"))
    assert validator.is_valid(load("steps: {a: {format: sweep, with: {clean: {strict: true}}}}"))
    assert not validator.is_valid(load("steps: {a: {format: sweep, with: {clean: {lower: true}}}}"))
    assert not validator.is_valid(load("steps: {a: {format: split, with: {path: x, clean: {strict: true}}}}"))


def test_it_takes_every_shipped_recipe(load: Callable[[str], Any]) -> None:
    validator = Draft202012Validator(recipe_schema(Plugins()))
    recipes = [path for folder in recipe_folders() for path in folder.glob("*.yaml")]
    assert recipes
    for path in recipes:
        validator.validate(load(path.read_text(encoding="utf-8")))


def test_the_command_prints_it_with_the_plugins_of_a_recipe(bench: Bench) -> None:
    bench.write("steps: {base: {load_model: builtin}}")
    plain, mine = bench.command("schema").json, bench.command("schema", "recipe.yaml").json
    assert "Count" not in plain["$defs"]
    assert "Count" in mine["$defs"]
