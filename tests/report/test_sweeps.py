"""Repeats side by side: the table and the plot, on the page, in the terminal and at the end of a run."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.conftest import Reporter
from tests.report.test_charts import coordinates, labels
from tests.report.test_page import HOSTILE, Read, quoted
from tuneforge.report import page
from tuneforge.report.charts import sweep_chart
from tuneforge.report.gather import Made, StepReport
from tuneforge.report.scores import evaluation
from tuneforge.report.sweeps import Figure, Row, Sweep, sweeps

SWEEP = """name: swept
steps:
  base: {train: learn, with: {answers: [wrong, four legs, no], steps: 3}}
  tuned:
    train: learn
    base: base
    with: {answers: [right, four wheels, no]}
    each: {steps: [2, 10, 50]}
  quiz:
    evaluate: quiz
    models: [base, tuned]
    with: {prompts: [Is it?, What has it?, And now?], expected: [right, four legs, yes]}
"""


def step(name: str, each: dict[str, Any], metrics: dict[str, Any], stage: str = "train", **more: Any) -> StepReport:
    digest = name.encode().hex().ljust(64, "0")[:64]
    made = Made(digest, "model", None, (), 1, 1, "run")
    return StepReport(name, stage, "m", "done", {}, name.partition("@")[0], each, metrics=metrics, made=made, **more)


def sweep(values: list[Any], figures: dict[str, list[float | None]], second: list[Any] | None = None) -> Sweep:
    eaches = [{"r": r} | ({"rate": rate} if second else {}) for r in values for rate in (second or [None])]
    rows = tuple(Row(each, (f"sft@{place}",), "done") for place, each in enumerate(eaches))
    columns = tuple(Figure(name, tuple(given), "lower") for name, given in figures.items())
    return Sweep(("sft",), tuple(eaches[0]), rows, columns)


def circles(chart: str) -> list[tuple[str, float, float]]:
    found = re.findall(r'<circle class="([^"]*)" cx="([^"]*)" cy="([^"]*)"', chart)
    return [(style, float(x), float(y)) for style, x, y in found]


def test_a_row_a_repeat_with_its_values_losses_and_scores() -> None:
    steps = [
        StepReport("base", "load_model", "m", "done", {}),
        step("sft@r=4", {"r": 4}, {"train_loss": 1.5, "eval_loss": 1.25, "rows": 10, "weights": 64, "ok": True}),
        step("sft@r=16", {"r": 16}, {"train_loss": 1.0, "eval_loss": 1.0, "rows": 10, "weights": 256, "ok": True}),
        step("merged@r=4", {"r": 4}, {"merge_error": 0.1}, "merge"),
        step("merged@r=16", {"r": 16}, {"merge_error": 0.2}, "merge"),
        StepReport("task", "evaluate", "m", "done", {}),
    ]
    scores = {steps[place].made.digest: {"right": right} for place, right in ((3, 0.25), (4, 0.5))}  # type: ignore[union-attr]
    found = evaluation("task", {"scores": scores | {"f" * 64: {"right": 0.1}}, "better": {"right": "higher"}}, {})
    assert found
    (made,) = sweeps(steps, [found])
    assert (made.steps, made.keys) == (("sft", "merged"), ("r",))
    assert [(row.each, row.steps) for row in made.rows] == [
        ({"r": 4}, ("sft@r=4", "merged@r=4")),
        ({"r": 16}, ("sft@r=16", "merged@r=16")),
    ]
    assert made.figures == (
        Figure("eval loss", (1.25, 1.0), "lower"),
        Figure("train loss", (1.5, 1.0), "lower"),
        Figure("task: right", (0.25, 0.5), "higher"),
        Figure("weights", (64.0, 256.0), ""),
    ), "what is alike in all rows, and what a merge notes, tells nothing"
    assert [figure.best for figure in made.figures] == [1.0, 1.0, 0.5, None]
    assert [figure.name for figure in made.plotted] == ["eval loss", "train loss", "task: right"]


def test_reports_that_are_repeated_themselves_stand_with_their_own_rows() -> None:
    steps = [step(f"sft@r={r}", {"r": r}, {}) for r in (4, 16)]
    reports = []
    for subject in list(steps):
        for data in ("a", "b"):
            assert subject.made
            r = subject.each["r"]
            steps.append(step(f"task@r={r}+data={data}", {"r": r, "data": data}, {}, "evaluate"))
            right = r + (data == "b")
            report = {"scores": {subject.made.digest: {"right": right}}}
            reports.append(evaluation(steps[-1].name, report, {}))
    (made,) = sweeps(steps, [report for report in reports if report])
    assert made.figures == (
        Figure("task data=a: right", (4.0, 16.0), ""),
        Figure("task data=b: right", (5.0, 17.0), ""),
    )


def test_a_row_that_has_no_figure_yet_is_there_with_its_status() -> None:
    done = step("sft@r=4", {"r": 4}, {"eval_loss": 1.0})
    failed = StepReport("sft@r=16", "train", "m", "failed", {}, "sft", {"r": 16})
    (made,) = sweeps([done, failed], [])
    assert [row.status for row in made.rows] == ["done", "failed"]
    assert made.figures == (Figure("eval loss", (1.0, None), "lower"),)
    assert made.plotted == [], "of one point there is nothing to see"
    assert not list(sweeps([failed], []))


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ([4, 16, 64], True),
        ([1e-5, 1e-4, 1e-3], True),
        ([1e-4, 2e-4, 3e-4], False),
        ([1, 2, 3, 4], False),
        ([1, 2, 4, 8], True),
        ([8, 16], False),
        ([1e-5, 1e-3], True),
        ([0, 0.1, 1], False),
        ([0, 10], False),
        ([-1, 1], False),
        ([3], False),
        (["a", "b"], False),
        ([True, False], False),
    ],
)
def test_values_that_grow_by_factors_stand_on_a_logarithmic_axis(values: list[Any], logarithmic: bool) -> None:
    made = sweep(values, {"loss": [1.0] * len(values)})
    assert made.logarithmic is logarithmic
    xs = [x for _, x, _ in circles(sweep_chart(made, made.figures[0]))]
    assert len(set(xs)) == len(values)
    if values in ([4, 16, 64], [1e-4, 2e-4, 3e-4]):
        assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)


def test_each_value_has_its_tick_and_the_best_point_is_marked() -> None:
    made = sweep([4, 64, 16], {"loss": [3.0, 1.0, 2.0]})
    chart = sweep_chart(made, made.figures[0])
    assert labels(chart)[-3:] == ["4", "16", "64"]
    assert [style for style, *_ in circles(chart)] == ["s1", "s1", "s1 best"], "drawn from left to right"
    assert coordinates(chart, "line s1") == [(x, y) for _, x, y in circles(chart)]
    assert 'data-told="3 at r 4|2 at r 16|1 at r 64"' in chart
    assert 'aria-label="loss by r: 3 at r 4; 2 at r 16; 1 at r 64"' in chart


def test_two_options_give_a_line_for_each_value_of_the_second() -> None:
    made = sweep([4, 16, 64], {"loss": [1.0, 2.0, 3.0, 4.0, 5.0, None]}, [1e-4, 2e-5])
    assert made.across == "r"
    assert [(line.label, line.rows) for line in made.lines] == [("rate 1e-4", (0, 2, 4)), ("rate 2e-5", (1, 3, 5))]
    chart = sweep_chart(made, made.figures[0])
    assert len(coordinates(chart, "line s1")) == 3
    assert len(coordinates(chart, "line s2")) == 2, "where a value is missing there is no point"
    assert [style for style, *_ in circles(chart)].count("s2") == 2
    assert "4 at r 16, rate 2e-5" in chart
    turned = sweep(["a", "b"], {"loss": [1.0, 2.0, 3.0, 4.0]}, [1e-4, 2e-5])
    assert turned.across == "rate", "numbers go across, where there are some"


def test_values_that_are_no_numbers_stand_side_by_side_without_a_line() -> None:
    made = sweep(["tiny", {"type": "lora"}, None], {"loss": [3.0, 1.0, 2.0]})
    chart = sweep_chart(made, made.figures[0])
    assert "<path" not in chart
    assert labels(chart)[-3:] == ["tiny", "lora", "null"]
    xs = [x for _, x, _ in circles(chart)]
    assert xs == sorted(xs) and len(set(xs)) == 3


def test_labels_that_would_run_into_each_other_are_left_out() -> None:
    made = sweep(list(range(1000, 1040)), {"loss": [float(place) for place in range(40)]})
    chart = sweep_chart(made, made.figures[0])
    assert len(circles(chart)) == 40
    below = [label for label in labels(chart) if len(label) == 4 and label.startswith("10")]
    assert 5 <= len(below) <= 12


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.floats(-1e9, 1e9, allow_subnormal=False),
        st.floats(-1e12, 1e12, allow_subnormal=False),
        min_size=2,
        max_size=12,
    )
)
def test_whatever_the_values_the_points_are_within_the_frame(values: dict[float, float]) -> None:
    made = sweep(list(values), {"loss": list(values.values())})
    for _, x, y in circles(sweep_chart(made, made.figures[0])):
        assert 43.9 <= x <= 304.1 and 9.9 <= y <= 162.1


def test_the_page_the_terminal_and_the_end_of_a_run_show_it(bench: Reporter) -> None:
    ended = bench.command("run", str(bench.write(SWEEP)))
    assert ended.code == 0, ended.err
    assert ended.out.count("\ntuned for each steps\nsteps  quiz: accuracy  quiz: length\n") == 1
    assert re.search(r"\n   10 +0\.3333 +6\n", ended.out)
    told = bench.command("report").out
    assert re.search(r"tuned for each steps\nsteps +quiz: accuracy +quiz: length *\n +2 +0\.3333 +6 *\n", told)
    (path,) = bench.home.glob("runs/*/report.html")
    read = Read()
    read.feed(path.read_text(encoding="utf-8"))
    read.close()
    assert "sweeps" in read.ids
    assert {"href": "#sweeps"} in read.all("a")
    assert "tuned for each steps" in read.said
    assert "Across: steps, on a logarithmic axis." in read.said
    assert len([one for one in read.all("svg") if str(one.get("aria-label")).startswith("quiz: ")]) == 2
    (document,) = bench.command("report", "--json").json["sweeps"]
    assert [row["each"] for row in document["rows"]] == [{"steps": 2}, {"steps": 10}, {"steps": 50}]
    assert "sweeps" not in page.render(bench.report("steps: {base: {train: learn}}")).partition("<body>")[2]


def test_hostile_values_are_shown_as_they_are(bench: Reporter) -> None:
    recipe = SWEEP.replace("each: {steps: [2, 10, 50]}", f"each: {{figure: [{quoted(HOSTILE)}, 'a|b', ab]}}")
    run = bench.report(recipe)
    assert run.status == "done"
    read = Read()
    read.feed(page.render(run))
    read.close()
    assert not read.all("img") and len(read.all("script")) == 1
    assert HOSTILE in read.said
    (chart, *_) = (one for one in read.all("svg") if str(one.get("aria-label")).startswith("quiz: "))
    assert len(str(chart["data-told"]).split("|")) == len(str(chart["data-x"]).split()) == 3
