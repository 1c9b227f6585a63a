"""`tuneforge report` in a terminal: the same, shorter; of the run that is meant."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.report.conftest import RECIPE, Finished, Reporter
from tuneforge.report.terminal import sparkline


def test_it_tells_the_run(finished: Finished) -> None:
    ended = finished.bench.command("report")
    assert ended.code == 0, ended.err
    out = ended.out
    assert out.startswith("quizzed  ✓ done\n")
    assert "--set steps.base.with.steps=2" in out
    assert re.search(r"✓  tuned  train: learn\s+[\d.]+ m?s  ━* +tuned \w{12} +pupil@v1\n", out)
    assert re.search(r"tuned  loss +[▁-█]{24} +5 +0.1 *\n", out)
    assert re.search(r"tuned +0.3333 +6 \+0.6667 *\n", out)
    assert "quiz: answers (3 of 3 rows)  base to tuned: 1 became right; 1 became wrong; 1 wrong, all alike" in out
    assert re.search(r"tuned ✓ +right", out)
    assert "rows: 17 rows left out (17 %): 13 too long; 4 too short" in out
    assert out.splitlines()[-1] == f"report: {finished.page}"


def test_a_run_tells_where_its_page_is(bench: Reporter) -> None:
    path = str(bench.write(RECIPE))
    last = bench.command("run", path).out.splitlines()[-1]
    page = Path(last.removeprefix("report: "))
    assert page.exists() and page.parent.parent == bench.home / "runs"
    document = bench.command("run", path, "--json").json
    assert Path(document["report"]) == bench.home / "runs" / document["run"] / "report.html"
    assert Path(document["report"]).exists()


def test_a_run_is_found_by_the_beginning_of_its_id(bench: Reporter) -> None:
    ended = bench.command("report")
    assert (ended.code, ended.err) == (
        2,
        f"{bench.home}: no run is recorded\n    Carry out a recipe first: tuneforge run.\n",
    )
    ids = [bench.report("steps: {rows: {format: collect, with: {path: text.txt}}}").id for _ in range(3)]
    assert bench.command("report", "--json").json["id"] == ids[-1], "the newest"
    for wanted in ids:
        assert bench.command("report", wanted, "--json").json["id"] == wanted
        assert bench.command("report", wanted[:-2], "--json").json["id"] == wanted
    ended = bench.command("report", "2")
    assert ended.code == 2
    assert ended.err.startswith("command line: 3 runs begin with 2\n    Give more of one: ")
    ended = bench.command("report", "nine")
    assert ended.code == 2
    assert ended.err == f"command line: there is no run nine\n    The newest are {', '.join(sorted(ids)[::-1])}.\n"


def test_the_page_can_be_written_elsewhere_and_again(finished: Finished, tmp_path: Path) -> None:
    there = tmp_path / "elsewhere.html"
    assert finished.bench.command("report", "--html", str(there)).out.endswith(f"report: {there}\n")
    first = finished.page.read_text()
    assert there.read_text() == first
    finished.page.unlink()
    finished.bench.command("report")
    assert finished.page.read_text() == first


def test_the_page_can_be_opened(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("click.launch", lambda path: opened.append(path) or 0)
    assert finished.bench.command("report", "--open").code == 0
    assert opened == [str(finished.page)]
    monkeypatch.setattr("click.launch", lambda path: 1)
    ended = finished.bench.command("report", "--open")
    assert ended.code == 2
    assert "--open: no browser could be opened" in ended.err


def test_json_tells_everything(finished: Finished) -> None:
    document = finished.bench.command("report", "--json").json
    assert document["report"] == str(finished.page)
    assert [step["name"] for step in document["steps"]] == ["rows", "base", "tuned", "quiz"]
    assert document["steps"][2]["curves"][0]["name"] == "loss"
    assert document["evaluations"][0]["models"][1]["scores"][0]["value"] == pytest.approx(1 / 3)
    json.dumps(document, allow_nan=False)


def test_no_text_can_take_over_the_terminal(bench: Reporter) -> None:
    evil = '"\\e]0;evil\\a\\e[2J [red]x[/]"'
    bench.report(
        RECIPE.replace("metric", "x"),
        f"steps.tuned.with.answers=[{evil}, {evil}, {evil}]",
        f"steps.tuned.with.figure={evil}",
        f"steps.quiz.with.prompts=[{evil}, b, c]",
        f"steps.quiz.with.metric={evil}",
        "steps.quiz.with.garbled=true",
    )
    ended = bench.command("report", FORCE_COLOR="")
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out and "\x07" not in ended.out
    assert "␛]0;evil␇␛[2J [red]x[/]" in ended.out


def test_a_sparkline_is_as_long_as_it_may_be() -> None:
    assert sparkline([1, 2, 3]) == "▁▅█"
    assert sparkline([5.0]) == "▄"
    assert len(sparkline(list(range(1000)))) == 24
    assert sparkline(list(range(1000)))[-1] == "█"
