"""`each:`: a step and what depends on it, repeated for every value of an option."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.bench import Bench, new, statuses, step_of, told
from tuneforge.plan import Plan
from tuneforge.recipe import RELEASE_NAME, Recipe, StepSpec, read_recipe

WORDS = "steps:\n  words: {format: split, with: {path: text.txt}}\n"
RECIPE = (
    WORDS
    + """  bag: {train: count, data: [words], each: {top: [1, 2]}}
  note: {align: remark, bag: bag}
  grade: {evaluate: grade, bags: [bag], words: words}
"""
)
FIT = re.compile(r"[A-Za-z0-9@=+._-]{1,201}")


def wires(recipe: Recipe) -> dict[str, dict[str, list[str]]]:
    return {name: spec.inputs for name, spec in recipe.steps.items()}


def names(bench: Bench, recipe: str, *settings: str) -> list[str]:
    read = bench.read(recipe, *settings)
    assert not read.problems, told(read.problems)
    return list(read.steps)


def problems(bench: Bench, recipe: str, *settings: str) -> list[str]:
    """`line:column: problem / fix` of each problem."""
    found = []
    for finding in bench.read(recipe, *settings).problems:
        place = finding.place.removeprefix(f"{bench.folder}/recipe.yaml:")
        found.append(f"{place}: {finding.problem}" + (f" / {finding.fix}" if finding.fix else ""))
    return found


def to_run(plan: Plan) -> list[str]:
    assert not plan.errors, told(plan.findings)
    return [step.name for step in plan.steps.values() if step.status == "run"]


def test_a_step_and_what_depends_on_it_are_repeated_and_lists_collect_them(bench: Bench) -> None:
    recipe = bench.read(RECIPE)
    assert not recipe.problems
    assert wires(recipe) == {
        "words": {},
        "bag@top=1": {"data": ["words"]},
        "bag@top=2": {"data": ["words"]},
        "note@top=1": {"bag": ["bag@top=1"]},
        "note@top=2": {"bag": ["bag@top=2"]},
        "grade": {"bags": ["bag@top=1", "bag@top=2"], "words": ["words"]},
    }
    assert [spec.method.top for spec in recipe.steps.values() if spec.of == "bag" and spec.method] == [1, 2]  # type: ignore[attr-defined]
    assert recipe.steps["note@top=2"].each == {"top": 2}
    assert recipe.steps["grade"].marks() == {}


def test_several_options_give_their_product_in_written_order(bench: Bench) -> None:
    bag = "  bag: {train: count, data: [words], with: {top: 9}, each: {rate: [1e-4, 0.5], top: [1, 2]}}\n"
    assert names(bench, WORDS + bag) == [
        "words",
        "bag@rate=1e-4+top=1",
        "bag@rate=1e-4+top=2",
        "bag@rate=0.5+top=1",
        "bag@rate=0.5+top=2",
    ]


def test_a_list_of_blocks_gives_one_repeat_a_block(bench: Bench) -> None:
    bag = "  bag: {train: count, data: [words], each: [{top: 1, rate: 0.5}, {top: 2}, {top: 2, rate: 1}]}\n"
    recipe = bench.read(WORDS + bag)
    assert not recipe.problems, told(recipe.problems)
    assert {name: dict(spec.each) for name, spec in recipe.steps.items() if spec.of} == {
        "bag@top=1+rate=0.5": {"top": 1, "rate": 0.5},
        "bag@top=2": {"top": 2},
        "bag@top=2+rate=1": {"top": 2, "rate": 1},
    }


def test_sweeps_that_meet_give_their_product_and_lists_collect_what_stands_with_them(bench: Bench) -> None:
    recipe = bench.read("""steps:
  words: {format: split, with: {path: text.txt}, each: {limit: [3, 5]}}
  bag: {train: count, data: [words], each: {top: [1, 2]}}
  note: {align: remark, bag: bag, each: {text: [fine, dull]}}
  grade: {evaluate: grade, bags: [bag, note], words: words}
  share: {evaluate: grade, bags: [words]}
""")
    found = wires(recipe)
    assert found["bag@top=1"] == {"data": ["words@limit=3", "words@limit=5"]}
    assert [name for name in found if name.startswith("note")] == [
        "note@top=1+text=fine",
        "note@top=1+text=dull",
        "note@top=2+text=fine",
        "note@top=2+text=dull",
    ]
    bags = ["bag@top=1", "bag@top=2", *(name for name in found if name.startswith("note"))]
    assert found["grade@limit=3"] == {"bags": bags, "words": ["words@limit=3"]}
    assert found["grade@limit=5"]["words"] == ["words@limit=5"]


def test_a_list_of_a_repeated_step_takes_only_what_stands_where_it_does(bench: Bench) -> None:
    """Data of two kinds, a model of each, and each judged on its own data."""
    (bench.folder / "text.csv").write_text("a b")
    recipe = bench.read("""steps:
  words: {format: split, each: {path: [text.txt, text.csv]}}
  died: {train: doom, words: words, with: {how: kill}, each: {how: [kill, exit]}}
  grade: {evaluate: grade, bags: died, words: words}
""")
    assert not recipe.problems
    assert wires(recipe)["grade@path=text.csv"] == {
        "bags": ["died@path=text.csv+how=kill", "died@path=text.csv+how=exit"],
        "words": ["words@path=text.csv"],
    }


def test_what_comes_by_two_ways_is_repeated_once_for_each(bench: Bench) -> None:
    (bench.folder / "mine.py").write_text("""from tuneforge import Field, Report, Step, Format, hookimpl
class Make(Format):
    "Makes."
    name = "make"
    output = Report
    size: int = Field(0, description="How much.")
    def run(self, of: Report | None = None, *, step: Step) -> None: ...
class Join(Format):
    "Joins."
    name = "join"
    output = Report
    def run(self, one: Report, two: Report, step: Step) -> None: ...
@hookimpl
def register_format(): return [Make, Join]
""")
    (bench.folder / "r.yaml").write_text("""plugins: [mine.py]
steps:
  a: {format: make, each: {size: [1, 2]}}
  b: {format: make, of: a}
  c: {format: make, of: a, each: {size: [3]}}
  ab: {format: join, one: b, two: a}
  bc: {format: join, one: b, two: c}
""")
    recipe = read_recipe(bench.folder / "r.yaml")
    assert not recipe.problems, told(recipe.problems)
    assert recipe.repeats["ab"] == ["ab@a.size=1", "ab@a.size=2"]
    assert wires(recipe)["ab@a.size=2"] == {"one": ["b@a.size=2"], "two": ["a@a.size=2"]}
    assert {name: spec.inputs for name, spec in recipe.steps.items() if spec.of == "bc"} == {
        "bc@a.size=1+c.size=3": {"one": ["b@a.size=1"], "two": ["c@a.size=1+c.size=3"]},
        "bc@a.size=2+c.size=3": {"one": ["b@a.size=2"], "two": ["c@a.size=2+c.size=3"]},
    }


def test_the_same_option_of_two_steps_is_told_apart_by_their_names(bench: Bench) -> None:
    found = names(
        bench,
        WORDS + "  bag: {train: count, data: [words]}\n  one: {align: remark, bag: bag, each: {text: [a]}}\n"
        "  two: {align: remark, bag: one, each: {text: [b]}}\n",
    )
    assert found[-2:] == ["one@one.text=a", "two@one.text=a+two.text=b"]
    apart = names(
        bench,
        WORDS + "  bag: {train: count, data: [words]}\n  one: {align: remark, bag: bag, each: {text: [a]}}\n"
        "  two: {align: remark, bag: bag, each: {text: [b]}}\n",
    )
    assert apart[-2:] == ["one@text=a", "two@text=b"], "those that do not meet need not be told apart"


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("{train: count, data: [words], each: {rate: [0.00015, 1.0, 2e-5, 0.25]}}", "1.5e-4 1.0 2e-5 0.25"),
        ("{format: split, with: {path: x}, each: {clean.lower: [true, false]}}", "true false"),
        ("{format: split, with: {path: x}, each: {clean: [{lower: true, drop: x}, {}]}}", "true-x none"),
        ("{format: split, each: {path: [/a/text.txt, b/other.txt]}}", "text.txt other.txt"),
        ("{format: split, each: {path: [a/text.txt, b/text.txt]}}", "a-text.txt b-text.txt"),
        (
            "{format: split, with: {path: x}, each: {clean.drop: [a b, a-b, A/B, '#', '']}}",
            "a-b a-b-2 A-B-3 none none-2",
        ),
        (f"{{format: split, with: {{path: x}}, each: {{clean.drop: [{'y' * 99}]}}}}", "y" * 40),
    ],
)
def test_a_name_is_readable_and_fit_for_files_and_shells(bench: Bench, step: str, found: str) -> None:
    read = bench.read(f"{WORDS}  s: {step}\n")
    assert not read.problems, told(read.problems)
    given = [name.rpartition("=")[2] for name in read.steps if name != "words"]
    assert given == found.split()
    assert all(FIT.fullmatch(name) for name in read.steps)


def test_a_name_of_many_options_is_cut_and_still_its_own(bench: Bench) -> None:
    each = ", ".join(f"{name}: [{'z' * 40}, {'z' * 39}y]" for name in ("clean.drop", "path"))
    found = names(bench, f"{WORDS}  s: {{format: split, each: {{{each}, limit: [1, 2]}}}}\n")
    assert len(set(found)) == 9
    assert all(FIT.fullmatch(name) for name in found)


def test_a_repeat_has_the_key_of_the_plain_step_and_is_cached_if_that_was_run(bench: Bench) -> None:
    plain = (
        WORDS + "  mine: {train: count, data: [words], with: {top: 2, rate: 0.5}}\n  note: {align: remark, bag: mine}\n"
    )
    before = bench.run(plain)
    sweep = WORDS + "  bag: {train: count, data: [words], with: {rate: 0.5}, each: {top: [1, 2]}}\n"
    sweep += "  note: {align: remark, bag: bag}\n"
    plan = bench.plan(sweep)
    assert to_run(plan) == ["bag@top=1", "note@top=1"]
    for name, other in (("bag@top=2", "mine"), ("note@top=2", "note")):
        assert plan.steps[name].key == step_of(before, other)["key"]
    record = bench.run(sweep)
    assert step_of(record, "bag@top=2")["status"] == "cached"
    again = bench.plan(plain.replace("top: 2", "top: 1"))
    assert not to_run(again)


def test_from_until_and_again_take_all_repeats_or_one(bench: Bench) -> None:
    bench.run(RECIPE)
    for again, asked in (("bag", ["bag@top=1", "bag@top=2"]), ("bag@top=2", ["bag@top=2"])):
        steps = bench.plan(RECIPE, again=[again]).steps.values()
        assert [step.name for step in steps if step.reason == "asked for with --again"] == asked
    changed = "steps.words.with.limit=4"
    until = {step.name for step in bench.plan(RECIPE, changed, until="bag").steps.values() if step.status == "run"}
    assert until == {"words", "bag@top=1", "bag@top=2"}
    until = {
        step.name for step in bench.plan(RECIPE, changed, until="note@top=1").steps.values() if step.status == "run"
    }
    assert until == {"words", "bag@top=1", "note@top=1"}
    skipped = {step.name for step in bench.plan(RECIPE, start="note").steps.values() if step.status == "skipped"}
    assert skipped == {"grade"}, "it needs no note, and the rest is needed by one"
    ended = bench.command("plan", str(bench.write(RECIPE)), "--from", "bag@top=3")
    assert (ended.code, ended.err) == (2, "--from: there is no step bag@top=3\n    Did you mean bag@top=2?\n")


def test_one_repeat_can_be_wired_by_its_name(bench: Bench) -> None:
    recipe = bench.read(RECIPE.replace("bag: bag}", "bag: bag@top=2}"))
    assert not recipe.problems
    assert wires(recipe)["note"] == {"bag": ["bag@top=2"]}
    assert problems(bench, RECIPE.replace("bag: bag}", "bag: bag@top=3}")) == [
        "5:25: there is no step bag@top=3 / Did you mean bag@top=2?"
    ]


def test_every_repeat_is_registered_under_a_name_of_its_own(bench: Bench) -> None:
    recipe = bench.read(
        WORDS + "  bag: {train: count, data: [words], as: roses, each: {rate: [1e-4, 0.5], top: [1]}}\n"
        "  clean: {format: split, with: {path: text.txt}, as: clean, each: {clean.drop: [a, A, Ä]}}\n"
    )
    labels = [spec.label for spec in recipe.steps.values() if spec.label]
    assert labels[:2] == ["roses-rate-1e-4-top-1", "roses-rate-0.5-top-1"]
    assert labels[2:] == ["clean-drop-a", "clean-drop-a-2", "clean-drop-none"]
    assert all(RELEASE_NAME.fullmatch(label) for label in labels)
    long = bench.read(WORDS + f"  bag: {{train: count, data: [words], as: {'a' * 100}, each: {{top: [1, 2]}}}}\n")
    labels = [spec.label for spec in long.steps.values() if spec.label]
    assert len(set(labels)) == 2 and all(RELEASE_NAME.fullmatch(label) for label in labels)
    team = bench.read(WORDS + f"  bag: {{train: count, data: [words], as: team/{'a' * 100}, each: {{top: [1, 2]}}}}\n")
    labels = [spec.label for spec in team.steps.values() if spec.label]
    assert len(set(labels)) == 2 and all(RELEASE_NAME.fullmatch(label) and "/" in label for label in labels)


def test_an_override_may_bring_values_or_another_option(bench: Bench) -> None:
    assert names(bench, RECIPE, "steps.bag.each.top=[7]")[1:3] == ["bag@top=7", "note@top=7"]
    assert "bag@top=2+rate=0.5" in names(bench, RECIPE, "steps.bag.each.rate=[1e-4, 0.5]")
    dotted = WORDS.replace("path: text.txt}", "path: text.txt}, each: {clean.drop: [a, b]}")
    assert names(bench, dotted, "steps.words.each.clean.drop=[c]") == ["words@drop=c"]
    assert names(bench, WORDS, "steps.words.each.clean.drop=[c]") == ["words@drop=c"]
    assert problems(bench, RECIPE, "steps.bag.each.top=[0, 3]") == [
        "--set steps.bag.each.top: top: input should be greater than or equal to 1, not 0 (in bag@top=0)"
        " / top takes int >= 1: How many words to keep."
    ]


def test_a_variable_may_hold_the_values(bench: Bench) -> None:
    text = "vars: {tops: [1, 2], one: 3}\n" + RECIPE
    assert names(bench, text.replace("[1, 2]}}", '"${tops}"}}'))[1:3] == ["bag@top=1", "bag@top=2"]
    assert "bag@top=3" in names(bench, text.replace("[1, 2]}}", '["${one}"]}}'))


@pytest.mark.parametrize(
    ("each", "problem"),
    [
        (
            "3",
            "4:36: each: is a block of options, each with a list of values / For example each: {learning_rate: [1e-4",
        ),
        ("{}", "4:36: each: is a block of options"),
        ("[]", "4:36: each: is a block of options"),
        ("[1, 2]", "4:36: each: is a block of options"),
        ("", "4:36: each: is a block of options"),
        ("{top: []}", "4:43: each: top has no value / Write one or more, or take it out."),
        ("{top: 3}", "4:43: each: top takes a list of values / top: [3, ...]"),
        ("{top: [1, 2, 1]}", "4:55: each: top has 1 twice / Keep one of them."),
        ("[{top: 1}, {top: 1}]", "4:53: each: has this block twice / Keep one of them."),
        ("{tpo: [1]}", "4:43: train: count has no option tpo to repeat / Did you mean top?"),
        ("[{tpo: 1}]", "4:44: train: count has no option tpo to repeat / Did you mean top?"),
        ("{lr: [1]}", "4:43: train: count has no option lr to repeat / It is called rate here."),
        ("{data: [words]}", "4:43: train: count has no option data to repeat / data is an input: repeat the step"),
        ("{top.x: [1]}", "4:43: train: count has no option top.x to repeat"),
        ("{top: [1], rate: [2]}", "4:60: rate: input should be less than or equal to 1, not 2 / rate takes float"),
        (
            "{top: [1, x, 0]}",
            "4:52: top: input should be a valid integer, unable to parse string as an integer, not 'x' (in s@top=x)",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_to_do(bench: Bench, each: str, problem: str) -> None:
    found = problems(bench, f"{WORDS}  s: {{train: count, data: [words], each: {each}}}\n")
    assert found[0].startswith(problem), found
    assert len(found) == (2 if "x, 0" in each else 1), "every repeat's problem"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("with: {path: x}, each: {lower: [true]}", "split has no option lower to repeat / Did you mean clean.lower?"),
        (
            "with: {path: x}, each: {lowercase: [true]}",
            "has no option lowercase to repeat / It is called clean.lower here.",
        ),
        (
            "with: {path: x, clean: 3}, each: {clean.lower: [true]}",
            "clean is a plain value in with:, and has no clean.lower",
        ),
        (
            "with: {path: x}, each: {clean.lower: [true], clean: [{}]}",
            "each: clean.lower lies inside of clean / Keep one",
        ),
        (
            "with: {path: x}, each: {clean.lower: [true], clean: {lower: [true]}}",
            "each: has clean.lower twice / Keep one",
        ),
        ("each: {limit: [1, 2]}", "format: split needs the option path / Add path: to with:."),
    ],
)
def test_a_mistake_inside_of_blocks_is_told(bench: Bench, body: str, problem: str) -> None:
    found = problems(bench, f"steps:\n  s: {{format: split, {body}}}\n")
    assert problem in found[0], found
    if "clean: 3" not in body:
        assert len(found) == 1


def test_a_problem_of_all_repeats_is_told_once_and_one_of_some_with_their_names(bench: Bench) -> None:
    recipe = RECIPE.replace("data: [words]", "dta: [words]").replace("bag: bag}", "bag: bag, with: {txt: x}}")
    assert problems(bench, recipe) == [
        "4:23: train: count has no input dta / Did you mean data?",
        "4:3: train: count needs the input data (list of words) / Add data: <a step>.",
        "5:42: align: remark has no option txt / Did you mean text?",
    ]
    gone = "steps:\n  words: {format: split, each: {path: [text.txt, gone.txt], clean.drop: [a, '?']}}\n"
    found = [(str(finding.place).rpartition("yaml:")[2], finding.problem) for finding in bench.plan(gone).findings]
    drop = "a question mark is no letter (in words@path=text.txt+drop=none, words@path=gone.txt+drop=none)"
    missing = f"there is no file {bench.folder}/gone.txt (in words@path=gone.txt+drop=a, words@path=gone.txt+drop=none)"
    assert found == [("3:77", drop), ("3:50", missing)]


def test_a_repeat_in_a_circle_is_told_as_the_circle(bench: Bench) -> None:
    recipe = WORDS + "  a: {align: remark, bag: b, each: {text: [x, y]}}\n  b: {align: remark, bag: a}\n"
    assert problems(bench, recipe + "  c: {align: remark, bag: b, each: {txt: [x]}}\n") == [
        "6:37: align: remark has no option txt to repeat / Did you mean text?",
        "4:3: steps wait for each other: a -> b -> a / Take one wire out.",
    ]
    assert bench.plan(recipe).errors


def test_no_written_step_can_bear_the_name_of_a_repeat(bench: Bench) -> None:
    (problem,) = problems(bench, RECIPE + "  bag@top=1: {train: count, data: [words]}\n")
    assert problem == "7:3: 'bag@top=1' is no name for a step / Use letters, digits, - and _."


def test_too_many_repeats_are_refused_before_they_are_made(bench: Bench) -> None:
    many = f"[{', '.join(map(str, range(1, 41)))}]"
    bag = f"  bag: {{train: count, data: [words], each: {{top: {many}, unheard: {many}}}}}\n"
    assert problems(bench, WORDS + bag + "  note: {align: remark, bag: bag}\n") == [
        "4:3: bag would be repeated 1600 times / At most 1000 can be planned at once: take values out."
    ]


def test_repeats_that_would_publish_over_each_other_are_refused(bench: Bench) -> None:
    share = RECIPE + "  share: {publish: share, bag: bag, with: {to: out.json}}\n"
    assert problems(bench, share) == [
        "7:3: share is repeated 2 times, and each would overwrite what the one before published"
        " / Publish one of them: wire it to bag@top=1, for example."
    ]
    assert not problems(bench, share.replace("bag: bag, with: {to", "bag: bag@top=1, with: {to"))


def test_records_and_documents_tell_of_repeats(bench: Bench) -> None:
    path = str(bench.write(RECIPE))
    planned = bench.command("plan", path, "--json").json
    assert [(step.get("of"), step.get("each")) for step in planned["steps"]] == [
        (None, None),
        ("bag", {"top": 1}),
        ("bag", {"top": 2}),
        ("note", {"top": 1}),
        ("note", {"top": 2}),
        (None, None),
    ]
    assert "bag@top=2   train: count" in bench.command("plan", path).out
    record = bench.run(RECIPE)
    assert set(statuses(record).values()) == {"done"}
    assert (step_of(record, "note@top=2")["of"], step_of(record, "note@top=2")["each"]) == ("note", {"top": 2})
    assert record["planned"][1]["each"] == {"top": 1}
    document = bench.command("run", path, "--json").json
    assert step_of(document, "bag@top=2")["of"] == "bag"
    assert (bench.home / "runs" / record["id"] / "bag@top=1.log").exists()


class Sweeping:
    """A random recipe of the toys, with what its expansion must be by counting alone."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.lines = ["steps:"]
        self.own: dict[str, dict[str, int]] = {}  # step -> option -> how many values
        self.single: dict[str, list[str]] = {}
        self.many: dict[str, list[str]] = {}
        words = [self.add("w", "format: split", "path: text.txt", {"limit": "1, 2, 3", "clean.drop": "a, b"})]
        words += [self.add("v", "format: split", "path: text.txt", {"limit": "4, 5"})]
        bags: list[str] = []
        for number in range(draw(st.integers(1, 4))):
            if bags and draw(st.booleans()):
                one = draw(st.sampled_from(bags))
                options = {"text": "x, y", "whole": "true, false"}
                bags.append(self.add(f"n{number}", "align: remark", "", options, single={"bag": one}))
            else:
                some = draw(st.lists(st.sampled_from(words), min_size=1, max_size=2, unique=True))
                options = {"top": "1, 2", "rate": "1e-4, 0.5, 1"}
                bags.append(self.add(f"b{number}", "train: count", "", options, many={"data": some}))
        some = draw(st.lists(st.sampled_from(bags), min_size=1, max_size=3, unique=True))
        one = draw(st.sampled_from(words))
        self.add("g", "evaluate: grade", "", {"least": "0, 1"}, single={"words": one}, many={"bags": some})

    def add(
        self,
        name: str,
        method: str,
        options: str,
        values: dict[str, str],
        single: dict[str, str] | None = None,
        many: dict[str, list[str]] | None = None,
    ) -> str:
        swept = self.draw(st.lists(st.sampled_from(list(values)), max_size=2, unique=True))
        self.own[name] = {option: len(values[option].split(",")) for option in swept}
        self.single[name] = list((single or {}).values())
        self.many[name] = [wire for given in (many or {}).values() for wire in given]
        parts = [method, *(f"{key}: {wire}" for key, wire in (single or {}).items())]
        parts += [f"{key}: [{', '.join(given)}]" for key, given in (many or {}).items()]
        parts += [f"with: {{{options}}}"] if options else []
        parts += [f"each: {{{', '.join(f'{option}: [{values[option]}]' for option in swept)}}}"] if swept else []
        self.lines.append(f"  {name}: {{{', '.join(parts)}}}")
        return name

    def axes(self, step: str) -> dict[tuple[str, str], int]:
        found = {axis: size for source in self.single[step] for axis, size in self.axes(source).items()}
        return found | {(step, option): size for option, size in self.own[step].items()}

    def of(self, recipe: Recipe, step: str) -> list[StepSpec]:
        return [spec for spec in recipe.steps.values() if (spec.of or spec.name) == step]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_repeated_names_are_unique_and_wiring_is_complete(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    made = Sweeping(data.draw)
    recipe = new(tmp_path_factory.mktemp("sweep")).read("\n".join(made.lines))
    assert not recipe.problems, told(recipe.problems)
    for step in made.own:
        specs, axes = made.of(recipe, step), made.axes(step)
        assert len(specs) == prod(axes.values())
        assert len({str(spec.each) for spec in specs}) == len(specs)
        assert len({spec.label or spec.name.lower() for spec in specs}) == len(specs)
        for spec in specs:
            assert FIT.fullmatch(spec.name)
            assert len(spec.each) == len(axes)
            collected = sum(
                prod(size for axis, size in made.axes(source).items() if axis not in axes) for source in made.many[step]
            )
            assert len(spec.sources()) == len(made.single[step]) + collected
            for wire in spec.sources():
                other = recipe.steps[wire]
                assert all(spec.each[key] == value for key, value in other.each.items() if key in spec.each)
            for option in made.own[step]:
                key = next(
                    key
                    for key in spec.each
                    if key.split(".")[-1] == option.split(".")[-1]
                    and (key in (option, option.split(".")[-1]) or key.startswith(f"{step}."))
                )
                value: Any = spec.method
                for part in option.split("."):
                    value = getattr(value, part)
                assert value == spec.each[key], "its configuration is that of the plain step"


_OPTIONS = st.sampled_from(["top", "rate", "clean", "clean.drop", "clean.lower", "limit", "path", "data", "x", "", "."])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("${some}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_OPTIONS, inner, max_size=3),
    max_leaves=8,
)
_EACH = _VALUES | st.dictionaries(_OPTIONS, st.lists(_VALUES, max_size=3), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(each=_EACH, config=_VALUES, wired=st.sampled_from(["words", "bag", "note", "words@limit=1"]), label=_VALUES)
def test_whatever_stands_there_is_repeated_or_refused(
    tmp_path_factory: pytest.TempPathFactory, each: Any, config: Any, wired: str, label: Any
) -> None:
    words = {"format": "split", "with": config, "each": each, "as": label}
    bag = {"train": "count", "data": [wired], "with": config, "each": each}
    steps = {"words": words, "bag": bag, "note": {"align": "remark", "bag": wired}}
    text = json.dumps({"vars": {"some": [1, "a/b"]}, "steps": steps}).replace("NaN", ".nan")
    recipe = new(tmp_path_factory.mktemp("each")).read(text)
    assert recipe.problems or recipe.steps
    assert all(finding.place and finding.problem for finding in recipe.problems)
    assert len({name.lower() for name in recipe.steps}) == len(recipe.steps)


def test_a_sweep_of_data_finds_files_beside_the_recipe(bench: Bench, tmp_path: Path) -> None:
    below = bench.folder / "below"
    below.mkdir()
    (below / "other.txt").write_text("a b c")
    (bench.folder / "other.txt").write_text("x")
    path = bench.write("steps: {words: {format: split, each: {path: [other.txt]}}}", "below/r.yaml")
    assert bench.command("run", str(path)).code == 0
    record = bench.command("run", str(path), "--json").json
    assert step_of(record, "words@path=other.txt")["metrics"]["words"] == 3
