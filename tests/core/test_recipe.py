"""Reading a recipe: every problem at once, each with its place and the nearest right thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.bench import TOYS, Bench, step_of
from tuneforge.errors import RefusedError
from tuneforge.plugins import Plugins
from tuneforge.recipe import find_recipe, read_recipe


def problems(bench: Bench, recipe: str, *settings: str) -> list[str]:
    """`line:column: problem / fix` of each problem."""
    found = []
    for finding in bench.read(recipe, *settings).problems:
        place = finding.place.removeprefix(f"{bench.folder}/recipe.yaml:")
        found.append(f"{place}: {finding.problem}" + (f" / {finding.fix}" if finding.fix else ""))
    return found


def test_a_right_recipe_has_no_problem_and_an_order(bench: Bench) -> None:
    recipe = bench.read("""name: roses
seed: 4
steps:
  note: {align: remark, bag: bag}
  bag: {train: count, data: [words], with: {top: 2}, as: roses}
  words: {format: split, with: {path: text.txt}}
""")
    assert not recipe.problems
    assert (recipe.name, recipe.seed) == ("roses", 4)
    assert list(recipe.steps) == ["words", "bag", "note"]
    assert recipe.steps["bag"].label == "roses"


def test_a_recipe_without_a_name_is_called_as_its_file(bench: Bench) -> None:
    assert bench.read("steps: {words: {format: split, with: {path: text.txt}}}").name == "recipe"


def test_every_problem_is_told_at_once(bench: Bench) -> None:
    assert problems(
        bench,
        """seedd: 3
vars: {top: 2}
steps:
  words: {format: split, with: {path: text.txt, lowercase: true}}
  one: {train: count, data: [wordss], with: {top: "${topp}"}}
  two: {train: coutn, data: words}
  three: {train: count, dta: words, with: {top: 0, topp: 2, top_k: 3, rate: a lot}}
  four: {train: count, data: [words], with: {data: [words]}, top: 2}
  five: {trian: count}
  six: {train: split}
  words: 3
""",
    ) == [
        "12:3: words is written twice in one block / Keep one of them.",
        "6:46: ${topp} is not defined / Did you mean top?",
        "2:1: a recipe has no key seedd / Did you mean seed?",
        "5:49: format: split has no option lowercase / It is called clean.lower here.",
        "6:23: there is no step wordss / Did you mean words?",
        "6:46: top: input should be a valid integer, unable to parse string as an integer, not '${topp}'"
        " / top takes int >= 1: How many words to keep.",
        "7:9: no installed plugin offers train: coutn / Did you mean count?",
        "8:25: train: count has no input dta / Did you mean data?",
        "8:3: train: count needs the input data (list of words) / Add data: <a step>.",
        "8:44: top: input should be greater than or equal to 1, not 0 / top takes int >= 1: How many words to keep.",
        "8:71: rate: input should be a valid number, unable to parse string as a number, not 'a lot'"
        " / rate takes float > 0, <= 1: What a count is multiplied with.",
        "8:52: train: count has no option topp / Did you mean top?",
        "8:61: train: count has no option top_k / It is called top here.",
        "9:62: train: count has no input top / top is an option: write it inside with:.",
        "9:46: train: count has no option data / data is an input of the step: write it beside with:, not inside.",
        "10:3: no stage is named / Did you mean train?",
        "11:9: no installed plugin offers train: split / split is a method of format: write `format: split`.",
    ]


@pytest.mark.parametrize(
    ("top", "problem"),
    [
        (
            "train: count",
            "2:1: a recipe has no key train / A step goes under steps:, as `train: ...` inside a named step.",
        ),
        ("name: [a]", "2:1: name must be a word"),
        ("name: ''", "2:1: name must be a word"),
        ("description: 3", "2:1: description must be a text"),
        ("seed: -1", "2:1: seed must be a whole number from 0 to 2147483647, not -1"),
        ("seed: true", "2:1: seed must be a whole number from 0 to 2147483647, not True"),
        ("seed: 1.5", "2:1: seed must be a whole number from 0 to 2147483647, not 1.5"),
        ("seed: 2147483648", "2:1: seed must be a whole number from 0 to 2147483647, not 2147483648"),
        ("vars: 3", "2:1: vars must map names to values / Write vars: {rank: 16}"),
    ],
)
def test_what_stands_at_the_top_is_checked(bench: Bench, top: str, problem: str) -> None:
    assert problems(bench, f"{top}\nsteps: {{words: {{format: split, with: {{path: text.txt}}}}}}") == [problem]


@pytest.mark.parametrize("steps", ["", "steps:", "steps: {}", "steps: 3", "steps: [a]"])
def test_a_recipe_needs_steps(bench: Bench, steps: str) -> None:
    (problem,) = problems(bench, steps)
    assert "a recipe needs steps" in problem


@pytest.mark.parametrize("text", ["", "3", "- a"])
def test_a_recipe_is_a_block(bench: Bench, text: str) -> None:
    (bench.folder / "other.yaml").write_text(text)
    (problem,) = read_recipe(bench.folder / "other.yaml").problems
    assert problem.problem == "a recipe is a block of keys"


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("3", "3:3: a step is a block of keys"),
        ("{}", "3:3: no stage is named"),
        ("{with: {}}", "3:3: no stage is named"),
        ("{format: split, train: count}", "3:3: a step has one stage, this one has format and train"),
        ("{format: }", "3:7: format takes the name of a method"),
        ("{format: [split]}", "3:7: format takes the name of a method"),
        ("{train: count, data: words}", None),
        ("{train: count, data: []}", "3:21: data takes a list of step names"),
        ("{train: count, data: [[words]]}", "3:21: data takes a list of step names"),
        ("{train: count, data: }", "3:21: data takes a list of step names"),
        ("{align: remark, bag: [words]}", "3:22: bag takes the name of a step"),
        ("{format: split, with: 3}", "3:22: with: is a block of options"),
        ("{format: split, with: [path]}", "3:22: with: is a block of options"),
        ("{format: split, with: }", "3:22: format: split needs the option path"),
        ("{format: split}", "3:3: format: split needs the option path"),
        ("{format: split, with: {path: 3}}", "3:29: path: a path is needed, not 3"),
        ("{format: split, with: {path: ''}}", "3:29: path: a path is needed, not ''"),
        ("{format: split, with: {path: ~nobody-at-all/x}}", "3:29: path: there is no such home folder"),
        ("{format: split, with: {path: x, clean: 3}}", "3:38: clean: input should be a valid dictionary or instance"),
        ("{format: split, with: {path: x, clean: {lwer: true}}}", "3:46: format: split has no option clean.lwer"),
        ("{format: split, with: {path: x, clean: {lower: 3}}}", "3:46: clean.lower: input should be a valid boolean"),
        ("{format: split, with: {path: x, clean: {limit: 3}}}", "3:46: format: split has no option clean.limit"),
        ("{train: doom, with: {how: laugh}}", "3:27: how: input should be 'kill', "),
        ("{format: split, with: {path: x}, as: Big}", "3:39: 'Big' is no name for the registry"),
        ("{format: split, with: {path: x}, as: 3}", "3:39: 3 is no name for the registry"),
    ],
)
def test_a_wrong_step_is_told_where_it_is_wrong(bench: Bench, step: str, problem: str | None) -> None:
    found = problems(bench, f"steps:\n  s: {step}\n  words: {{format: split, with: {{path: text.txt}}}}")
    assert [entry[: len(problem or "")] for entry in found] == ([problem] if problem else [])


@pytest.mark.parametrize("name", ["1st", "a b", "ä", "a.b", "~", "a" * 101])
def test_a_step_name_is_a_word(bench: Bench, name: str) -> None:
    (problem,) = problems(bench, f"steps:\n  {name}: {{format: split, with: {{path: text.txt}}}}")
    assert problem.startswith(f"3:3: {name!r} is no name for a step")


def test_a_misplaced_option_is_shown_its_place(bench: Bench) -> None:
    (problem,) = problems(bench, "steps: {words: {format: split, with: {path: text.txt, lower: true}}}")
    assert problem.endswith("/ It belongs elsewhere: clean.lower.")
    (problem,) = problems(bench, "steps: {words: {format: split, with: {path: text.txt, clean: {limit: 3}}}}")
    assert problem.endswith("/ It belongs elsewhere: limit.")


def test_a_cycle_hides_no_other_problem(bench: Bench) -> None:
    recipe = """steps:
  a: {align: remark, bag: b}
  b: {align: remark, bag: c}
  c: {align: remark, bag: a}
  d: {align: remark, bag: d}
  words: {format: split, with: {path: gone.txt}}
"""
    assert problems(bench, recipe) == [
        "5:3: steps wait for each other: c -> b -> a -> c / Take one wire out.",
        "6:3: steps wait for each other: d -> d / Take one wire out.",
    ] or sorted(bench.read(recipe).steps) == ["words"]
    assert any("there is no file" in finding.problem for finding in bench.plan(recipe).findings)


def test_paths_of_the_recipe_start_at_the_recipe_and_those_of_the_command_at_the_working_folder(bench: Bench) -> None:
    below = bench.folder / "below"
    below.mkdir()
    path = below / "r.yaml"
    path.write_text(
        f"plugins: [{TOYS}]\nvars: {{folder: data}}\n"
        "steps: {a: {format: split, with: {path: x.txt}}, b: {format: split, with: {path: '${folder}/x.txt'}},"
        " c: {format: split, with: {path: x.txt}}}"
    )
    recipe = read_recipe(path, ["steps.c.with.path=x.txt"])
    paths = {name: step.method.path if step.method else None for name, step in recipe.steps.items()}
    assert paths == {"a": below / "x.txt", "b": below / "data/x.txt", "c": bench.folder / "x.txt"}


def test_an_override_is_checked_like_the_recipe(bench: Bench) -> None:
    recipe = "steps: {bag: {train: count, data: [words]}, words: {format: split, with: {path: text.txt}}}"
    assert problems(
        bench, recipe, "steps.bag.with.top=0", "steps.bag.with.tpo=1", "steps.words.with.clean.lower=on"
    ) == [
        "--set steps.bag.with.top: top: input should be greater than or equal to 1, not 0"
        " / top takes int >= 1: How many words to keep.",
        "--set steps.bag.with.tpo: train: count has no option tpo / Did you mean top?",
    ]
    assert problems(bench, recipe, "steps.bgg.with.top=1") == [
        "--set steps.bgg.with.top: the recipe has no steps bgg / Did you mean bag?"
    ]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (None, "is neither a file beside the recipe nor an installed module"),
        ("import nothing_of_that_name", "cannot be imported: No module named 'nothing_of_that_name'"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("def x(:", "cannot be imported: SyntaxError: "),
        ("@hookimpl\ndef register_train(): 1 / 0", "register_train: ZeroDivisionError: division by zero"),
        ("@hookimpl\ndef register_train(): return None", "register_train: TypeError: "),
        ("@hookimpl\ndef register_trian(): return []", "register_trian"),
        ("@hookimpl\ndef extend_plan(stpes): return []", "stpes"),
        ("@hookimpl\ndef register_train(): return [3]", "register_train offers 3, which is no subclass of Train"),
    ],
)
def test_a_broken_plugin_is_a_loud_error_with_its_place(bench: Bench, code: str | None, problem: str) -> None:
    if code is not None:
        (bench.folder / "mine.py").write_text(f"from tuneforge import *\n{code}\n")
    (bench.folder / "r.yaml").write_text("name: x\nplugins:\n  - mine.py\nsteps: {base: {load_model: builtin}}\n")
    (found,) = read_recipe(bench.folder / "r.yaml").problems
    assert found.place == f"{bench.folder}/r.yaml:3:5"
    assert "mine.py" in found.problem
    assert problem in found.problem


def test_a_module_without_a_file_is_no_plugin(bench: Bench) -> None:
    (bench.folder / "r.yaml").write_text("plugins: [sys]\nsteps: {base: {load_model: builtin}}\n")
    (found,) = read_recipe(bench.folder / "r.yaml").problems
    assert found.problem == "plugin 'sys' cannot be imported: ImportError: sys is no Python file"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("name = 'A b'", "M.name is 'A b'"),
        ("def run(self, data: int, step): ...", "run's parameter data must be annotated with artifact kinds"),
        ("def run(self, data, step): ...", "run's parameter data must be annotated with artifact kinds"),
        ("def run(self, train: Model, step): ...", "run's parameter train bears a name that recipes reserve"),
        ("def run(self, *data: Model, step): ...", "run's parameter data must be a plain one"),
        ("def run(self, step, data: Model): ...", "run must take self first and step last"),
        ("needs = ('a b c',)", "M: "),
        ("rank: int = 3", "M.rank has no description"),
        ("version: int = Field(3, description='x')", "M.version: the name belongs to Method"),
    ],
)
def test_a_method_that_breaks_the_contract_is_refused(bench: Bench, body: str, problem: str) -> None:
    fields = {"name": "name = 'm'", "def run": "def run(self, step): ..."}
    lines = [line for start, line in fields.items() if not body.startswith(start)] + [body]
    code = "from tuneforge import *\nclass M(Train):\n    'It does.'\n" + "".join(f"    {line}\n" for line in lines)
    (bench.folder / "mine.py").write_text(code + "@hookimpl\ndef register_train(): return [M]\n")
    (bench.folder / "r.yaml").write_text("plugins: [mine.py]\nsteps: {base: {load_model: builtin}}\n")
    (found,) = read_recipe(bench.folder / "r.yaml").problems
    assert problem in found.problem


# Copies of the toys define kinds of the same names, which one process cannot tell apart: so each has its own.


def test_a_method_offered_twice_names_both_plugins(bench: Bench) -> None:
    (bench.folder / "second.py").write_text(TOYS.read_text())
    (bench.folder / "r.yaml").write_text(f"plugins: [{TOYS}, second.py]\nsteps: {{base: {{load_model: builtin}}}}")
    ended = bench.finish("plan", "r.yaml")
    assert ended.code == 2
    assert f"plugin second.py: format: split is already offered by {TOYS}" in ended.err


def test_a_local_plugin_may_be_a_folder_or_a_module(bench: Bench) -> None:
    package = bench.folder / "toy_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .toys import *")
    (package / "toys.py").write_text(TOYS.read_text())
    (bench.folder / "r.yaml").write_text("plugins: [toy_package]\nsteps: {a: {format: split, with: {path: text.txt}}}")
    digest = step_of(bench.finish("run", "r.yaml", "--json").json, "a")["digest"]
    (bench.folder / "lib").mkdir()
    package.rename(bench.folder / "lib/toy_package")
    ended = bench.finish("run", "r.yaml", "--json", PYTHONPATH=str(bench.folder / "lib"))
    assert step_of(ended.json, "a")["digest"] == digest
    assert step_of(ended.json, "a")["status"] == "cached", "its content counts, not its place"


def test_a_recipe_is_found_by_path_or_by_name(bench: Bench) -> None:
    path = bench.write("steps: {}")
    assert find_recipe(str(path)) == path
    with pytest.raises(RefusedError, match=r"^nowhere/x.yaml: there is no recipe nowhere/x.yaml"):
        find_recipe("nowhere/x.yaml")
    with pytest.raises(RefusedError, match="there is no recipe called nothing-like-it"):
        find_recipe("nothing-like-it")


def test_a_recipe_that_is_no_text_is_refused(bench: Bench) -> None:
    path = bench.folder / "r.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RefusedError, match="cannot be read"):
        read_recipe(path)


_WORDS = st.sampled_from(
    [
        "name",
        "seed",
        "vars",
        "steps",
        "words",
        "bag",
        "format",
        "train",
        "split",
        "count",
        "with",
        "as",
        "data",
        "path",
        "text.txt",
        "${words}",
        "registry:x",
        "clean",
        "lower",
        "top",
        "-",
        "Ä",
        "1e999",
        "~",
        "<<",
    ]
)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(), inner, max_size=4),
    max_leaves=12,
)
_STEP = st.dictionaries(
    st.sampled_from(["format", "train", "align", "with", "as", "data", "bag", "x"]), _TREES, max_size=4
)
_RECIPES = _TREES | st.fixed_dictionaries(
    {"steps": st.dictionaries(_WORDS, _STEP | _TREES, max_size=4)}, optional={"vars": _TREES}
)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plugins]:
    plugins = Plugins()
    plugins.load_local(str(TOYS), Path())
    return tmp_path_factory.mktemp("trees"), plugins


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(tree=_RECIPES, value=_TREES)
def test_no_tree_is_a_crash(toys: tuple[Path, Plugins], tree: Any, value: Any) -> None:
    folder, plugins = toys
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    recipe = read_recipe(path, [f"steps.words.with={yaml.safe_dump(value)}"], plugins)
    assert recipe.problems or recipe.steps
    assert all(finding.place and finding.problem for finding in recipe.problems)
