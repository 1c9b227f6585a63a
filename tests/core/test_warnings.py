"""What a step warns of is kept and told; what it prepares is there before it runs."""

from __future__ import annotations

import csv
import json
from xml.etree import ElementTree

import pytest

from tests.core.bench import Bench, step_of
from tuneforge.events import Event, Logged
from tuneforge.report.gather import gather
from tuneforge.runner import Run

RECIPE = """steps:
  words: {format: split, with: {path: text.txt}}
  play: {train: rehearse, words: words, with: {slips: [2, 4]}}
"""
WARNED = [
    {"problem": "the hall is dark", "fix": "", "done": 0},
    {"problem": "a slip in part 2", "fix": "Slow down.", "done": 2},
    {"problem": "a slip in part 4", "fix": "Slow down.", "done": 4},
    {"problem": "it was slow", "fix": "Practise.", "done": 1},
]


@pytest.mark.parametrize("fails", [False, True])
def test_warnings_are_in_the_record_with_how_far_the_step_was(bench: Bench, fails: bool) -> None:
    record = bench.run(RECIPE, f"steps.play.with.fails={str(fails).lower()}")
    assert record["status"] == ("failed" if fails else "done")
    kept = bench.plan(RECIPE).registry.run(record["id"])
    assert step_of(kept, "play")["warnings"] == WARNED
    assert "warnings" not in step_of(kept, "words")
    log = (bench.home / "runs" / record["id"] / "play.log").read_text()
    assert "warning: a slip in part 2\n    Slow down.\n" in log
    assert "warning: a slip in part 2\n    Slow down." in bench.said()


def test_what_an_interrupted_step_warned_of_is_in_its_report(bench: Bench) -> None:
    def watch(event: Event) -> None:
        if isinstance(event, Logged) and "part 2" in event.text:
            raise KeyboardInterrupt

    work = Run(bench.plan(RECIPE), watch, threads=1)
    with pytest.raises(KeyboardInterrupt):
        work.carry_out()
    play = gather(work.registry, work.id).step("play")
    assert play.status == "interrupted"
    assert [told.problem for told in play.warnings] == [told["problem"] for told in WARNED[:2]]


def test_warnings_are_told_at_the_end_and_in_json(bench: Bench) -> None:
    path = str(bench.write(RECIPE))
    ended = bench.command("run", path)
    assert ended.code == 0
    assert ended.err.endswith("step play: warning: it was slow\n    Practise.\n")
    assert ended.err.count("warning: ") == 4
    again = bench.command("run", path, "--json", "--again", "play").json
    assert step_of(again, "play")["warnings"] == WARNED
    cached = bench.command("run", path, "--json")
    assert "warnings" not in step_of(cached.json, "play"), "nothing was done that could be warned of"
    assert "slip" not in cached.err


def test_a_cached_step_is_reported_with_what_was_told_when_it_was_made(bench: Bench) -> None:
    registry = bench.plan(RECIPE).registry
    first = gather(registry, bench.run(RECIPE)["id"]).step("play")
    again = gather(registry, bench.run(RECIPE)["id"]).step("play")
    assert again.status == "cached"
    assert [told.problem for told in again.warnings] == [told["problem"] for told in WARNED]
    assert again.warnings == first.warnings and again.samples == first.samples
    assert again.samples is not None
    assert again.samples.moments == [1, 2, 3, 4] and again.samples.prompts == ["what?"]
    assert again.samples.answers == [["part 1", "part 2", "part 3", "part 4"]]


@pytest.mark.parametrize("fails", [False, True])
def test_curves_are_written_as_a_picture_and_as_data(bench: Bench, fails: bool) -> None:
    record = bench.run(RECIPE, f"steps.play.with.fails={str(fails).lower()}")
    folder = bench.home / "runs" / record["id"]
    with (folder / "play.curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["done"], row["total"], float(row["loss"])) for row in rows] == [
        (str(done), "4", 1 / done) for done in range(1, 5)
    ]
    picture = ElementTree.parse(folder / "play.curves.svg").getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "head"] == [
        "loss"
    ]
    assert len([path for path in picture.iter() if path.get("class") == "line"]) == 1
    assert f"curves: {folder / 'play.curves.svg'} and play.curves.csv" in bench.said()
    assert not list(folder.glob("words.curves.*")), "it told no figures"


def test_a_part_is_prepared_before_it_is_played_and_again_after_a_failure(bench: Bench) -> None:
    bench.run(RECIPE, "steps.play.with.fails=true")
    record = bench.run(RECIPE)
    folder = bench.plan(RECIPE).registry.tree(step_of(record, "play")["digest"])
    assert json.loads((folder / "bag.json").read_text()) == {"prepared": "8 8 "}, "in the same scratch folder"


def test_what_is_prepared_takes_what_the_run_takes(bench: Bench) -> None:
    (bench.folder / "odd.py").write_text("""from tuneforge import Model, Step, Train, hookimpl
class Odd(Train):
    "Prepares something else."
    name = "odd"
    def prepare(self, model: Model, step: Step) -> None: ...
    def run(self, model: Model, data: Model, step: Step) -> None: ...
@hookimpl
def register_train(): return [Odd]
""")
    (problem,) = bench.read("steps: {base: {load_model: builtin}}", "plugins=[odd.py]").problems
    assert "Odd.prepare does not take what its run takes" in str(problem)
