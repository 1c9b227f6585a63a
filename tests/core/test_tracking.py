"""What plugins and trackers are told of a run, and that nothing of theirs fails it or holds it up."""

from __future__ import annotations

import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.core.bench import Bench, statuses, step_of, told
from tests.core.test_runner import alive, wait_for
from tuneforge.events import Logged
from tuneforge.runner import Run
from tuneforge.tracking import feed
from tuneforge_registry import Registry

DIARIES = Path(__file__).with_name("diaries.py")
BOTH = f"plugins=[{Path(__file__).with_name('toys.py')}, {DIARIES}]"
HEAD = "trackers: {diary: {OPTIONS}}\n"
RECIPE = """name: roses
seed: 5
steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: patient, words: words, with: {parts: 3}}
  counts: {train: count, data: [words], with: {top: 2}}
  grades: {evaluate: grade, bags: [counts]}
"""
LISTENER = """from tuneforge import hookimpl
heard = []
@hookimpl
def run_started(event): heard.append(event)
@hookimpl
def step_started(event): heard.append(event)
@hookimpl
def step_metrics(event): heard.append(event)
@hookimpl
def step_finished(event): heard.append(event)
@hookimpl
def run_finished(event): heard.append(event)
"""


def diary(bench: Bench, name: str = "diary.jsonl") -> list[dict[str, Any]]:
    """What the toy tracker was told."""
    path = bench.folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tracked(bench: Bench, options: str = "", recipe: str = RECIPE, *settings: str) -> dict[str, Any]:
    return bench.run(HEAD.replace("OPTIONS", options) + recipe, BOTH, *settings)


def warnings(bench: Bench) -> list[str]:
    return [text for text in bench.said() if text.startswith("warning")]


def listen(bench: Bench, code: str, recipe: str = RECIPE) -> tuple[dict[str, Any], ModuleType]:
    """A run that a local plugin listens to."""
    (bench.folder / "listener.py").write_text(code)
    plan = bench.plan(recipe, f"plugins=[{Path(__file__).with_name('toys.py')}, listener.py]")
    assert not plan.errors, told(plan.findings)
    bench.events.clear()
    record = Run(plan, bench.events.append, threads=1).carry_out()
    return record, plan.recipe.plugins.manager.get_plugin("listener.py")


def test_hooks_are_told_in_order(bench: Bench) -> None:
    record, listener = listen(bench, LISTENER)
    heard = listener.heard
    assert [(type(event).__name__, getattr(event, "step", "")) for event in heard] == [
        ("RunStarted", ""),
        ("StepStarted", "words"),
        ("StepFinished", "words"),
        ("StepStarted", "bag"),
        ("StepMetrics", "bag"),
        ("StepMetrics", "bag"),
        ("StepMetrics", "bag"),
        ("StepFinished", "bag"),
        ("StepStarted", "counts"),
        ("StepFinished", "counts"),
        ("StepStarted", "grades"),
        ("StepFinished", "grades"),
        ("RunFinished", ""),
    ]
    assert {event.run for event in heard} == {record["id"]}
    began = heard[0]
    assert (began.recipe, list(began.steps)) == ("roses", ["words", "bag", "counts", "grades"])
    bag = heard[3]
    made = step_of(record, "bag")
    assert (bag.stage, bag.method, bag.key) == ("train", "patient", made["key"])
    assert (bag.config, bag.inputs) == ({"parts": 3}, {"words": ["words"]})
    assert [(event.number, event.done, event.total) for event in heard[4:7]] == [(1, 1, 3), (2, 2, 3), (3, 3, 3)]
    assert [event.figures["loss"] for event in heard[4:7]] == [1, 1 / 2, 1 / 3]
    assert abs(heard[4].time - time.time()) < 60
    counts = heard[9]
    assert (counts.status, counts.kind, counts.digest) == ("done", "bag", step_of(record, "counts")["digest"])
    assert counts.metrics == {"kinds": 3}
    assert heard[11].scores == {"counts": {"kept": 2}}
    assert (heard[12].status, heard[12].recipe) == ("done", "roses")


def test_what_is_cached_has_only_an_end(bench: Bench) -> None:
    bench.run(RECIPE)
    _, listener = listen(bench, LISTENER)
    assert [(type(event).__name__, getattr(event, "status", "")) for event in listener.heard] == [
        ("RunStarted", ""),
        *[("StepFinished", "cached")] * 4,
        ("RunFinished", "done"),
    ]


def test_a_failed_step_is_told_of(bench: Bench) -> None:
    record, listener = listen(bench, LISTENER, "steps:\n  bag: {train: doom, with: {how: refuse}}\n")
    ended, over = listener.heard[-2:]
    assert (ended.status, ended.error, over.status) == ("failed", step_of(record, "bag")["error"], "failed")


def test_what_a_hook_raises_is_told_once(bench: Bench) -> None:
    code = LISTENER.replace("def step_metrics(event): ", "def step_metrics(event):\n    1 / 0\n    ")
    record, listener = listen(bench, code)
    assert record["status"] == "done"
    assert warnings(bench) == ["warning: plugin listener.py: step_metrics failed: ZeroDivisionError: division by zero"]
    assert len(listener.heard) == 10


def test_a_hook_may_take_nothing(bench: Bench) -> None:
    code = "from tuneforge import hookimpl\nheard = []\n@hookimpl\ndef run_started(): heard.append(1)\n"
    assert listen(bench, code)[1].heard == [1]


def test_a_tracker_is_told_the_same(bench: Bench) -> None:
    _, listener = listen(bench, LISTENER)
    heard = [event for event in listener.heard if type(event).__name__ not in ("StepStarted", "StepMetrics")]
    record = tracked(bench, "", RECIPE, "seed=6")
    entries = diary(bench)
    assert [entry["told"] for entry in entries if entry["told"] not in ("StepStarted", "StepMetrics")] == [
        type(event).__name__ for event in heard
    ]
    assert [entry["figures"] for entry in entries if entry["told"] == "StepMetrics"] == [
        {"loss": 1.0},
        {"loss": 1 / 2},
        {"loss": 1 / 3},
    ]
    assert {entry["run"] for entry in entries} == {record["id"]}
    assert entries[-2]["scores"] == {"counts": {"kept": 2}}
    assert len({entry["pid"] for entry in entries} | {os.getpid()}) == 2
    place = str(bench.folder / "diary.jsonl")
    assert record["trackers"]["diary"] == {"status": "done", "place": place, "left_out": 0, "problem": ""}
    assert Logged("", f"tracker diary: {place}") in bench.events
    assert Registry(bench.home).run(record["id"])["trackers"] == record["trackers"]
    log = Registry(bench.home).run_folder(record["id"]) / "tracker.diary.log"
    assert log.read_text() == "dear diary\n"


def test_trackers_count_for_no_key(bench: Bench) -> None:
    keys = [step.key for step in bench.plan(RECIPE).steps.values()]
    assert keys[0] == bench.plan(HEAD.replace("OPTIONS", "pause: 1") + RECIPE, BOTH).steps["words"].key


def test_where_nothing_is_to_be_done_no_tracker_starts(bench: Bench) -> None:
    bench.run(RECIPE)
    record = tracked(bench)
    assert set(statuses(record).values()) == {"cached"}
    assert record["trackers"]["diary"]["status"] == "unused"
    assert not diary(bench)


@pytest.mark.parametrize(
    ("manner", "problem"),
    [
        ("refuse", "ValueError: the diary is locked"),
        ("raise", "step_metrics: OSError: the pen is dry"),
        ("kill", "its process was killed (SIGKILL)"),
        ("exit", "its process ended with exit code 3 and no word"),
    ],
)
def test_a_tracker_that_fails_does_not_fail_the_run(bench: Bench, manner: str, problem: str) -> None:
    record = tracked(bench, f"manner: {manner}")
    assert record["status"] == "done"
    log = Registry(bench.home).run_folder(record["id"]) / "tracker.diary.log"
    assert warnings(bench) == [f"warning: tracker diary: {problem}. Its log: {log}"]
    assert record["trackers"]["diary"]["problem"] == problem
    if manner in ("refuse", "raise"):
        assert "Traceback" in log.read_text()
    if manner == "raise":
        assert diary(bench)[-1]["told"] == "RunFinished"
        assert record["trackers"]["diary"]["status"] == "done"
    else:
        assert record["trackers"]["diary"]["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("manner", ["hang", "linger"])
def test_a_tracker_that_hangs_is_given_up(bench: Bench, manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SOON", 0.2)
    monkeypatch.setattr(feed, "PATIENCE", 2.0)
    record = tracked(bench, f"manner: {manner}")
    assert record["status"] == "done"
    assert "waiting for diary to finish, at most 2 s (Ctrl-C goes on without)" in bench.said()
    (warning,) = warnings(bench)
    assert warning.startswith("warning: tracker diary: it did not finish within 2 s; ")
    assert record["trackers"]["diary"]["status"] == "failed"
    wait_for(lambda: not alive(diary(bench)[0]["pid"]))


@pytest.mark.slow
def test_a_slow_tracker_holds_up_no_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "WAITING", 10)
    monkeypatch.setattr(feed, "PATIENCE", 3.0)
    recipe = RECIPE.replace("parts: 3", "parts: 2000")
    record = tracked(bench, "pause: 0.2", recipe)
    assert record["status"] == "done"
    assert step_of(record, "bag")["seconds"] < 60 < 2000 * 0.2
    entry = record["trackers"]["diary"]
    assert entry["left_out"] > 0
    (warning,) = warnings(bench)
    missing = int(warning.split("; ")[1].split()[0])
    assert missing + entry["left_out"] > 1000
    assert entry["problem"] in warning


def test_what_was_left_out_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "WAITING", 0)
    record = tracked(bench)
    assert record["trackers"]["diary"] == {
        "status": "done",
        "place": str(bench.folder / "diary.jsonl"),
        "left_out": 3,
        "problem": "it was too slow: 3 figures were left out",
    }
    assert "StepMetrics" not in [entry["told"] for entry in diary(bench)]
    assert diary(bench)[-1]["told"] == "RunFinished"


@pytest.mark.slow
def test_an_environment_that_cannot_be_made_is_a_warning(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    record = bench.run("trackers: {locked: }\n" + RECIPE, BOTH)
    assert record["status"] == "done"
    (warning,) = warnings(bench)
    assert warning.startswith("warning: tracker locked: the environment could not be made: ")
    assert bench.command("plan", "recipe.yaml", "--set", BOTH).out.splitlines()[-1] == (
        "tracked by locked (in an environment of its own, to be made)"
    )


@pytest.mark.slow
@pytest.mark.network
def test_a_tracker_works_in_an_environment_of_its_own(bench: Bench) -> None:
    recipe = f"trackers: {{elsewhere: }}\n{RECIPE}"
    record = bench.run(recipe, BOTH)
    assert record["trackers"]["elsewhere"]["status"] == "done", bench.said()
    assert record["trackers"]["elsewhere"]["place"] == "toolz 1.0.0 of envs"
    assert any(text.startswith("tracker elsewhere: installing ") for text in bench.said())
    assert bench.command("plan", "recipe.yaml", "--set", BOTH).out.splitlines()[-1] == (
        "tracked by elsewhere (in an environment of its own, ready)"
    )


@pytest.mark.slow
def test_a_resumed_step_is_told_of_from_its_beginning(bench: Bench) -> None:
    recipe = HEAD.replace("OPTIONS", "") + RECIPE.replace("parts: 3", "parts: 12, pause: 0.2, seen: seen.txt")
    path = bench.write(recipe)
    killed = bench.start("run", str(path), "--set", BOTH)
    seen = bench.folder / "seen.txt"
    wait_for(lambda: seen.exists() and len(seen.read_text().splitlines()) >= 8)
    killed.kill()
    killed.communicate()
    # It is told that the run is gone, and then ends.
    entries = wait_for(lambda: [entry for entry in diary(bench) if entry["told"] == "RunFinished"])
    assert entries[0]["status"] == "killed"
    wait_for(lambda: not alive(entries[0]["pid"]))
    (bench.folder / "diary.jsonl").unlink()
    assert bench.run(recipe, BOTH)["status"] == "done"
    told_of = [entry for entry in diary(bench) if entry["told"] == "StepMetrics"]
    numbers = [entry["number"] for entry in told_of]
    assert numbers[0] == 1
    assert numbers[-1] == 12
    assert numbers == sorted(set(numbers))
    # What a killed run wrote down in its last second may be lost, and nothing else.
    assert sum(after - before > 1 for before, after in pairwise(numbers)) <= 1
    assert numbers[-3:] == [10, 11, 12]
    assert [entry["figures"]["loss"] for entry in told_of] == [1 / number for number in numbers]
    times = [entry["time"] for entry in told_of]
    assert times == sorted(times)


@pytest.mark.slow
def test_who_has_troubles_is_told_of_a_killed_run_too(bench: Bench) -> None:
    recipe = RECIPE.replace("parts: 3", "parts: 300, pause: 0.02")
    options = "manner: raise, pause: 0.5"
    running = bench.start("run", str(bench.write(HEAD.replace("OPTIONS", options) + recipe)), "--set", BOTH)
    wait_for(lambda: len(diary(bench)) >= 2)
    running.kill()
    running.communicate()
    over = wait_for(lambda: [entry for entry in diary(bench) if entry["told"] == "RunFinished"], 10)
    assert over[0]["status"] == "killed"


@pytest.mark.slow
def test_an_interrupted_run_is_told_of(bench: Bench) -> None:
    recipe = HEAD.replace("OPTIONS", "") + RECIPE.replace("parts: 3", "parts: 300, pause: 0.2, seen: seen.txt")
    running = bench.start("run", str(bench.write(recipe)), "--set", BOTH)
    wait_for(lambda: (bench.folder / "seen.txt").exists() and diary(bench))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert (diary(bench)[-1]["told"], diary(bench)[-1]["status"]) == ("RunFinished", "interrupted")


def test_work_that_begins_anew_counts_on(bench: Bench) -> None:
    code = LISTENER.replace("from tuneforge", "from tuneforge.stages import Train\nfrom tuneforge", 1)
    code += """
from tuneforge import Artifact, Step
class Nothing(Artifact):
    kind = "nothing"
class Twice(Train):
    "Goes through its work twice."
    name = "twice"
    output = Nothing
    def run(self, step: Step) -> None:
        for done in (1, 2, 3, 1, 2, 3):
            step.progress(done, 3, loss=1.0)
        (step.out / "x").write_text("x")
@hookimpl
def register_train():
    return [Twice]
"""
    _, listener = listen(bench, code, "steps:\n  x: {train: twice}\n")
    numbers = [(event.number, event.done) for event in listener.heard if type(event).__name__ == "StepMetrics"]
    assert numbers == [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2), (6, 3)]


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("{dairy: {}}", "recipe.yaml:2:12: no installed plugin offers a tracker dairy\n    Did you mean diary?"),
        ("{diary: {paus: 1}}", "recipe.yaml:2:20: tracker diary has no option paus\n    Did you mean pause?"),
        ("{diary: {path: x}}", "recipe.yaml:2:20: tracker diary has no option path\n    It is called to here."),
        ("{diary: {pause: -1}}", "recipe.yaml:2:20: pause: input should be greater than or equal to 0, not -1"),
        (
            "{diary: [to]}",
            "recipe.yaml:2:12: diary is a block of options\n    diary: {}, or diary: false to leave it out",
        ),
        ("[diary]", "recipe.yaml:2:1: trackers must map names to options"),
        ("{diary: {to: .}}", "recipe.yaml:2:20: no diary is kept there\n    Name another file."),
    ],
)
def test_mistakes_are_found_at_plan_time(bench: Bench, block: str, problem: str) -> None:
    plan = bench.plan(f"trackers: {block}\n{RECIPE}", BOTH)
    found = told(plan.findings)
    assert any(text.removeprefix(f"{bench.folder}/").startswith(problem) for text in found), found


@pytest.mark.parametrize(
    ("block", "settings", "names"),
    [
        ("", ["trackers.diary.pause=2"], ["diary"]),
        ("trackers: {diary: {to: a}}\n", ["trackers.diary=false"], []),
        ("trackers:\n", [], []),
        ("trackers: {diary: }\n", [], ["diary"]),
    ],
)
def test_trackers_are_named_and_left_out(bench: Bench, block: str, settings: list[str], names: list[str]) -> None:
    plan = bench.plan(block + RECIPE, BOTH, *settings)
    assert not plan.findings
    assert list(plan.recipe.trackers) == names
    if settings == ["trackers.diary.pause=2"]:
        assert plan.recipe.trackers["diary"].pause == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("    pass", "Mine has no open"),
        ("    name = 'Oh no'", "Mine.name is 'Oh no'; use small letters, digits, - and _"),
        ("    x: int = 3\n    def open(self, run): ...", "Mine.x has no description"),
        ("    needs = ('a b',)\n    def open(self, run): ...", "Mine: "),
        ("    name = 'diary'\n    def open(self, run): ...", f"the tracker diary is already offered by {DIARIES}"),
    ],
)
def test_a_tracker_that_breaks_the_contract_is_refused(bench: Bench, body: str, problem: str) -> None:
    code = f"from tuneforge import Tracker, hookimpl\nclass Mine(Tracker):\n    'Mine.'\n    name = 'mine'\n{body}\n"
    code += "@hookimpl\ndef register_tracker():\n    return [Mine]\n"
    (bench.folder / "mine.py").write_text(code)
    found = told(bench.read(RECIPE, f"plugins=[{Path(__file__).with_name('toys.py')}, {DIARIES}, mine.py]").problems)
    assert len(found) == 1, found
    assert f"plugin mine.py: {problem}" in found[0]
