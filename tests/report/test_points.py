"""How curves are recorded and read back: whole, thinned out, joined, and whatever a killed process left of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tuneforge.report.points import Recorder, curves_of, location, points_of
from tuneforge_registry import Registry


def folder(home: Path, run: str) -> Path:
    made = home / "runs" / run
    made.mkdir(parents=True, exist_ok=True)
    return made


def record(home: Path, run: str, done: Sequence[int], key: str = "k", total: int = 100) -> Path:
    recorder = Recorder(folder(home, run), "sft", key, print)
    for place in done:
        recorder(place, total, {"loss": 1 / place})
    recorder.close()
    return location(folder(home, run), "sft")


def done(home: Path, run: str, key: str | None = "k") -> list[float]:
    return [point.done for point in points_of(Registry(home), run, "sft", key)]


def test_points_are_read_as_they_were_recorded(tmp_path: Path) -> None:
    record(tmp_path, "1", range(1, 6))
    points = points_of(Registry(tmp_path), "1", "sft", "k")
    assert [(point.done, point.total, point.figures["loss"]) for point in points] == [
        (place, 100, 1 / place) for place in range(1, 6)
    ]
    assert all(0 <= point.seconds < 10 for point in points)


def test_a_step_without_progress_leaves_no_file(tmp_path: Path) -> None:
    assert not record(tmp_path, "1", []).exists()
    assert done(tmp_path, "1") == []


def test_points_of_another_key_are_not_taken(tmp_path: Path) -> None:
    record(tmp_path, "1", range(1, 6), key="other")
    assert done(tmp_path, "1") == []
    assert done(tmp_path, "1", None) == [1, 2, 3, 4, 5]


def test_a_line_cut_short_and_figures_that_are_none_are_passed_over(tmp_path: Path) -> None:
    path = record(tmp_path, "1", [1, 2])
    with path.open("a") as file:
        file.write('{"done": 3, "total": 9, "seconds": 1, "figures": {"loss": null, "a": NaN, "b": "x", "c": 2}}\n')
        file.write('[1]\n{"done": Infinity, "total": 9, "seconds": 1, "figures": {}}\n{"done": 4, "tot')
    points = points_of(Registry(tmp_path), "1", "sft", "k")
    assert [point.figures for point in points[2:]] == [{"c": 2}]
    loss, other = curves_of(points)
    assert (loss.name, loss.done, other.name, other.done) == ("loss", [1, 2], "c", [3])


def test_a_large_file_is_read_in_part_from_its_first_to_its_last_point(tmp_path: Path) -> None:
    path = location(folder(tmp_path, "1"), "sft")
    with path.open("w") as file:
        file.write('{"key": "k"}\n')
        for place in range(1, 300_001):
            file.write(f'{{"done": {place}, "total": 300000, "seconds": 1, "figures": {{"loss": {place}}}}}\n')
    found = done(tmp_path, "1")
    assert (found[0], found[-1]) == (1, 300_000)
    assert 1500 < len(found) < 2500
    assert max(after - before for before, after in pairwise(found)) < 400, "evenly"
    assert found == sorted(found)


def test_work_that_went_on_has_the_points_of_before(tmp_path: Path) -> None:
    record(tmp_path, "1", range(1, 8))
    record(tmp_path, "2", range(1, 3), key="other")
    record(tmp_path, "3", range(5, 12))
    record(tmp_path, "4", range(10, 15))
    assert done(tmp_path, "4") == list(range(1, 15))
    assert done(tmp_path, "3") == list(range(1, 12)), "what came later is not its own"
    assert done(tmp_path, "1") == list(range(1, 8))
    assert done(tmp_path, "4", None) == list(range(1, 15)), "by the key that it names"
    seconds = [point.seconds for point in points_of(Registry(tmp_path), "4", "sft", "k")]
    assert seconds == sorted(seconds)


def test_work_in_large_parts_did_not_go_on_from_anywhere(tmp_path: Path) -> None:
    record(tmp_path, "1", [10, 20])
    record(tmp_path, "2", [16, 32, 48])
    assert done(tmp_path, "2") == [16, 32, 48]


def test_points_can_be_read_while_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    recorder = Recorder(folder(tmp_path, "1"), "sft", "k", print)
    for place in range(1, 4):
        now = float(place)
        recorder(place, 9, {})
    assert done(tmp_path, "1") == [1, 2, 3]
    recorder.close()
    last = json.loads(location(folder(tmp_path, "1"), "sft").read_text().splitlines()[-1])
    assert last == {"done": 3, "total": 9, "seconds": 3.0, "figures": {}}
