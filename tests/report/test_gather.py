"""What the report of a run is made of: from real records, whole or cut short, and from them alone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.report.conftest import RECIPE, Finished, Reporter
from tuneforge import __version__
from tuneforge.report import page, terminal
from tuneforge.report.answers import read_answers
from tuneforge.report.gather import gather

SLOW = RECIPE.replace("steps: 40", "steps: 40, pause: 0.05")


@pytest.fixture
def started(bench: Reporter) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command line, and ends it should the test not."""
    processes = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        processes.append(bench.start(*arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def reached(bench: Reporter, done: int) -> None:
    """Waits until the step `tuned` of the one run is that far, as its scratch folder says, and the run heard of it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        heard = any(bench.home.glob("runs/*/tuned.progress.jsonl"))
        if heard and any(int(note.read_text() or 0) >= done for note in bench.home.glob("scratch/*/reached")):
            return
        time.sleep(0.02)
    raise AssertionError("it never got there")


def test_the_head_tells_what_was_run(finished: Finished) -> None:
    run = finished.run
    assert (run.recipe, run.status, run.version) == ("quizzed", "done", __version__)
    assert run.started and run.seconds and 0 < run.seconds < 60
    assert run.settings == ("steps.base.with.steps=2",)
    assert run.text == (finished.bench.folder / "recipe.yaml").read_text()
    assert run.failure is None
    assert run.packages["this"]["tuneforge"] == __version__


def test_steps_follow_each_other_in_time(finished: Finished) -> None:
    steps = finished.run.steps
    assert [step.name for step in steps] == ["rows", "base", "tuned", "quiz"]
    assert all(one.began + one.seconds <= other.began + 0.002 for one, other in pairwise(steps))
    assert all(0 <= step.work_seconds < step.seconds for step in steps)  # of half a millisecond nothing is told
    assert any(step.work_seconds for step in steps)
    assert finished.run.step("quiz").sources == ["base", "tuned"]


def test_every_figure_has_its_curve(finished: Finished) -> None:
    loss, rate = finished.run.step("tuned").curves
    assert (loss.name, rate.name, loss.total) == ("loss", "learning_rate", 40)
    assert loss.done == list(range(1, 41))
    assert loss.values == [4 / done + done % 2 for done in range(1, 41)]
    assert list(loss.seconds) == sorted(loss.seconds)
    assert not finished.run.step("quiz").curves


def test_scores_are_compared_with_the_first_model(finished: Finished) -> None:
    (quiz,) = finished.run.evaluations
    assert (quiz.step, quiz.metrics, quiz.passed) == ("quiz", ("accuracy", "length"), True)
    base, tuned = quiz.models
    assert [base.model, tuned.model] == ["base", "tuned"]
    assert [score.value for score in base.scores] == [pytest.approx(1 / 3), pytest.approx(16 / 3)]
    assert base.scores[0].change is None
    assert (tuned.scores[0].change, tuned.scores[0].turn, tuned.scores[0].best) == (0, "", False), "a tie is not best"
    assert (tuned.scores[1].turn, tuned.scores[1].best, base.scores[1].best) == ("worse", False, True)
    assert tuned.scores[1].length == 1
    assert quiz.about == {"rows": 3}


def test_answers_tell_what_became_of_each_row(finished: Finished) -> None:
    (sheet,) = finished.run.sheets
    assert (sheet.models, sheet.rows, sheet.right) == (("base", "tuned"), 3, {"base": 1, "tuned": 1})
    assert sheet.turns == {"became right": 1, "became wrong": 1, "wrong, all alike": 1}
    gained, lost, never = sheet.exercises
    assert [answer.right for answer in gained.answers] == [False, True]
    assert [(piece.text, piece.kind) for piece in lost.answers[1].pieces] == [
        ("four ", "same"),
        ("wheels", "extra"),
    ]
    assert never.answers[0].models == ("base", "tuned"), "who answers alike stands together"
    assert never.prompt == (("user", "And now?"),)


def test_rows_left_out_are_counted_wherever_a_step_tells_them(finished: Finished) -> None:
    rows, base, tuned, quiz = finished.run.left_out
    assert list(rows.reasons.items()) == [("too long", 13), ("too short", 4)]
    assert (rows.total, rows.share, rows.loud) == (100, 0.17, True)
    assert (base.count, tuned.count, tuned.loud) == (0, 0, False)
    assert (quiz.reasons, quiz.total, quiz.loud) == ({"too long": 3}, 6, True), "from the report itself"


def test_artifacts_have_digests_names_and_ancestors(finished: Finished) -> None:
    run = finished.run
    made = run.step("tuned").made
    assert made and made.digest == finished.bench.registry.resolve("pupil")
    assert (made.names, made.run, made.files) == (("pupil@v1",), run.id, 1)
    (final,) = run.lineages
    assert (final.wire, final.kind) == ("quiz", "report")
    assert [name for name, _ in final.inputs] == ["models", "models"]
    assert [(name, node.wire) for name, node in final.inputs[1][1].inputs] == [("data", "rows"), ("base", "base")]
    (source,) = run.sources
    assert (source.step, source.option, source.name) == ("rows", "path", "text.txt")
    assert len(source.digest) == 12


def test_what_was_cached_is_told_by_the_run_that_made_it(bench: Reporter) -> None:
    first = bench.report(RECIPE)
    second = bench.report(RECIPE)
    assert {step.status for step in second.steps} == {"cached"}
    for name in ("base", "tuned"):
        assert second.step(name).curves == first.step(name).curves
    made = second.step("tuned").made
    assert made and made.run == first.id
    assert second.evaluations == first.evaluations
    assert second.sheets == first.sheets
    assert second.left_out == first.left_out


def test_a_failed_step_is_told_with_its_fix_and_its_log(bench: Reporter) -> None:
    run = bench.report(RECIPE, "steps.tuned.with.ends_at=5")
    assert (run.status, [step.status for step in run.steps]) == ("failed", ["done", "done", "failed", "skipped"])
    assert run.failure
    assert (run.failure.step, run.failure.problem) == ("tuned", "it cannot be learnt")
    assert run.failure.fix == "Learn something else."
    failed = run.step("tuned")
    assert "StepError: it cannot be learnt" in failed.log
    assert "raise StepError" in failed.traceback
    assert failed.curves[0].done == [1, 2, 3, 4]
    assert failed.sources == ["rows", "base"], "the picture shows where it stands"
    assert run.step("quiz").sources == ["base", "tuned"]
    assert failed.config["steps"] == 40
    assert [node.wire for node in run.lineages] == ["rows", "base"], "nothing was made of them"


def test_an_interrupted_run_has_a_page_and_its_curve_goes_on_in_the_next(
    bench: Reporter, started: Callable[..., subprocess.Popen[str]]
) -> None:
    path = str(bench.write(SLOW))
    process = started("run", path)
    reached(bench, 8)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    (page,) = bench.home.glob("runs/*/report.html")
    assert f"report: {page}" in out
    run = gather(bench.registry, page.parent.name)
    assert (run.status, [step.status for step in run.steps]) == (
        "interrupted",
        ["done", "done", "interrupted", "skipped"],
    )
    assert run.failure and run.failure.step == "tuned"
    before = run.step("tuned").curves[0]
    assert before.done[0] == 1 and before.done[-1] < 40
    assert run.step("tuned").seconds == pytest.approx((run.seconds or 0) - run.step("tuned").began)

    after = bench.report(SLOW).step("tuned").curves[0]
    assert (after.done[0], after.done[-1]) == (1, 40), "with what the first run had done"
    assert after.values[: len(before.values)] == before.values
    assert list(after.seconds) == sorted(after.seconds)


def test_a_killed_run_is_reported_from_its_record(
    bench: Reporter, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started("run", str(bench.write(SLOW)))
    reached(bench, 25)  # by then a second has gone by, after which points can be read
    process.kill()
    process.wait()
    ended = bench.command("report", "--json")
    assert ended.code == 0, ended.err
    steps = {step["name"]: step for step in ended.json["steps"]}
    assert {name: step["status"] for name, step in steps.items()} == {
        "rows": "done",
        "base": "done",
        "tuned": "interrupted",
        "quiz": "skipped",
    }
    assert steps["tuned"]["curves"][0]["done"][0] == 1
    assert steps["tuned"]["seconds"] > 0.5
    assert Path(ended.json["report"]).exists()


def test_without_its_artifacts_a_run_is_told_from_the_record(bench: Reporter) -> None:
    whole = bench.report(RECIPE)
    for folder in ("manifests", "trees", "blobs"):
        shutil.rmtree(bench.home / folder)
    run = gather(bench.registry, whole.id)
    assert run.gone == ("quiz",)
    assert not run.sheets
    (quiz,) = run.evaluations
    assert (quiz.metrics, [model.model for model in quiz.models]) == (("accuracy",), ["base", "tuned"])
    assert run.step("tuned").made and run.step("tuned").made.files is None  # type: ignore[union-attr]
    assert [(found.step, found.count) for found in run.left_out] == [("rows", 17), ("base", 0), ("tuned", 0)]
    assert page.render(run)


def test_records_of_before_there_were_reports_can_be_read(bench: Reporter) -> None:
    run_id = bench.run(RECIPE, "steps.tuned.with.ends_at=5")["id"]
    path = bench.home / "runs" / f"{run_id}.json"
    record = json.loads(path.read_text())
    for name in ("settings", "tuneforge", "planned"):
        del record[name]
    for step in record["steps"]:
        del step["began"]
        if step["status"] in ("failed", "skipped"):
            del step["wires"]
        if step["status"] == "failed":
            del step["key"], step["config"]
    path.write_text(json.dumps(record))
    for points in bench.home.glob("runs/*/*.jsonl"):
        points.unlink()
    run = gather(bench.registry, run_id)
    assert run.version == __version__, "as its packages tell"
    assert [step.status for step in run.steps] == ["done", "done", "failed", "skipped"]
    assert run.steps[1].began == run.steps[0].seconds
    assert page.render(run)


def test_an_artifact_from_the_registry_is_told_with_its_own_lineage(bench: Reporter) -> None:
    first = bench.report(RECIPE)
    recipe = """steps:
  next: {train: learn, base: "registry:pupil", with: {answers: [x], steps: 5}}
  quiz: {evaluate: quiz, models: ["registry:pupil", next], with: {prompts: [a], expected: [x]}}
"""
    run = bench.report(recipe)
    assert [model.model for model in run.evaluations[0].models] == ["registry:pupil", "next"]
    (final,) = run.lineages
    ((name, pupil),) = final.inputs[1][1].inputs
    assert (name, pupil.wire) == ("base", "registry:pupil")
    assert pupil.made_by == f"train: learn in {first.id}"
    assert [(name, node.wire) for name, node in pupil.inputs] == [("data", "rows"), ("base", "base")]
    assert "from the registry" in page.render(run)


def test_a_report_that_cannot_be_written_leaves_the_run_as_it_is(
    bench: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("tuneforge.report.page.write_page", fail)
    path = str(bench.write(RECIPE))
    ended = bench.command("run", path)
    assert ended.code == 0
    assert "warning: the report could not be written: ZeroDivisionError: by zero" in ended.err
    (record,) = bench.registry.runs().values()
    assert record["status"] == "done"
    ended = bench.command("run", path, "--json")
    assert (ended.code, ended.json["status"], ended.json["report"]) == (0, "done", None)


def test_curves_that_cannot_be_recorded_do_not_stop_a_step(bench: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def open_file(path: Path, *arguments: str, **options: str) -> object:
        if path.name.endswith(".progress.jsonl"):
            raise OSError(28, "No space left on device", str(path))
        return opened(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", open_file)
    record = bench.run("steps: {base: {train: learn}}")
    assert record["status"] == "done"
    said, _ = bench.said()
    assert said.startswith("warning: its curves are not recorded: ")
    assert "No space left on device" in said


def test_of_many_answers_the_first_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with path.open("w") as file:
        file.write("garbled\n[]\n" + json.dumps({"answers": {}}) + "\n")
        for place in range(6000):
            row = {"prompt": "x" * 600, "expected": place % 3, "answers": {"one": place % 2, "two": {"a": place}}}
            file.write(json.dumps(row) + "\n")
    sheet = read_answers(path, "quiz", {"one": "first"})
    assert sheet and sheet.rows == 6003
    assert 1000 < sheet.seen < 6000
    assert sheet.models == ("first", "two")
    assert sheet.right["first"] == pytest.approx(sheet.seen / 3, abs=3), "numbers are compared as texts"
    assert len(sheet.exercises) == 8
    assert sheet.exercises[0].prompt == (("", "x" * 600),)


def test_who_measured_says_what_is_right(tmp_path: Path) -> None:
    rows = [
        {"prompt": "1", "expected": "yes", "answers": {"a": "no", "b": "oh yes"}, "right": {"a": False, "b": True}},
        {"prompt": "2", "expected": "yes", "answers": {"a": "no", "b": "oh yes"}},
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sheet = read_answers(tmp_path / "answers.jsonl", "quiz", {"a": "base", "b": "tuned"})
    assert sheet is not None
    assert sheet.right == {"base": 0, "tuned": 1}
    assert [[answer.right for answer in row.answers] for row in sheet.exercises] == [[False, True], [False, False]]
    assert terminal._answer(sheet.exercises[0].answers[1]).plain == "oh yes", "right answers are shown whole"
