"""Curves as SVG, and numbers as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneforge.report.charts import line_chart
from tuneforge.report.figures import change, duration, number, share, size
from tuneforge.report.points import Curve


def curve(values: Sequence[float], name: str = "loss", total: float | None = None) -> Curve:
    done = [float(place) for place in range(1, len(values) + 1)]
    return Curve(name, total or len(values), done, done, list(values))


def coordinates(chart: str, kind: str) -> list[tuple[float, float]]:
    path = re.search(rf'class="{kind}" d="M([^"]*)"', chart)
    return [tuple(map(float, point.split())) for point in path[1].split("L")] if path else []  # type: ignore[misc]


def labels(chart: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", chart)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=1, max_size=60))
def test_whatever_the_values_the_line_is_within_the_frame(values: list[float]) -> None:
    chart = line_chart(curve(values))
    for kind in ("line", "raw"):
        for x, y in coordinates(chart, kind):
            assert 43.9 <= x <= 304.1 and 9.9 <= y <= 162.1
    up = [label for label in labels(chart) if label]
    assert len(up) == len(labels(chart)), "every tick has its label"
    assert len(up) >= 4


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([8.3, 2.4], ["0", "5", "10"]),
        ([0.69, 0.41], ["0.4", "0.5", "0.6", "0.7"]),
        ([1e-4, 6e-7], ["0", "5e-5", "1e-4"]),
        ([0.002, 0.0001], ["0", "0.0005", "0.0010", "0.0015", "0.0020"]),
        ([2e6, 1e6], ["1e6", "1.5e6", "2e6"]),
        ([1.0, 1.0], ["0.5", "1.0", "1.5"]),
    ],
)
def test_axes_have_round_ticks(values: list[float], ticks: list[str]) -> None:
    assert labels(line_chart(curve(values)))[: len(ticks)] == ticks


def test_an_unfinished_curve_ends_where_the_work_did() -> None:
    points = coordinates(line_chart(curve([3.0, 2.0, 1.0], total=6)), "line")
    assert points[-1][0] == pytest.approx((44 + 304) / 2, abs=0.1)


def test_a_noisy_curve_is_smoothed_and_a_smooth_one_is_not() -> None:
    noisy = line_chart(curve([5 / (place + 1) + place % 2 for place in range(60)]))
    raw, line = coordinates(noisy, "raw"), coordinates(noisy, "line")
    assert len(raw) == len(line) == 60
    way = [sum(abs(a[1] - b[1]) for a, b in pairwise(path)) for path in (raw, line)]
    assert way[1] < way[0] / 5
    assert not coordinates(line_chart(curve([5 / (place + 1) for place in range(60)])), "raw")


def test_of_many_points_few_are_drawn_and_no_peak_is_lost() -> None:
    values = [1.0] * 5000
    values[1234] = 10.0
    points = coordinates(line_chart(curve(values)), "line")
    assert len(points) < 400
    assert min(y for _, y in points) == 10, "the peak reaches the top"


def test_one_point_is_a_dot() -> None:
    chart = line_chart(curve([3.0]))
    assert '<circle cx="' in chart
    assert not coordinates(chart, "line")


def test_what_a_curve_tells_is_escaped_and_says_its_course() -> None:
    chart = line_chart(curve([3.0, 1.0, 2.0], name='<b>"loss_1"'))
    assert "<b>" not in chart
    told = "loss 1&#34;: 3 at first, 2 at last, least 1 at 2, greatest 3 at 1"
    assert chart.count(told) == 2, "as its title, and to who hears the page"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0"),
        (1.0, "1"),
        (0.47764, "0.4776"),
        (217101, "217,101"),
        (3055.6, "3,056"),
        (1.4e-6, "1.4e-06"),
        (-0.5, "-0.5"),
        (1e20, "1.000e+20"),
    ],
)
def test_numbers(value: float, told: str) -> None:
    assert number(value) == told


def test_other_figures() -> None:
    assert [change(value) for value in (0.5, -1200, 0)] == ["+0.5", "\N{MINUS SIGN}1,200", "±0"]
    assert [duration(value) for value in (0, 0.038, 0.1, 59.94, 59.96, 89, 120, 3600, 7512)] == [
        "0.0 s",
        "38 ms",
        "0.1 s",
        "59.9 s",
        "1 min",
        "1 min 29 s",
        "2 min",
        "1 h",
        "2 h 5 min",
    ]
    assert [share(value) for value in (0, 0.003, 0.0949, 0.17)] == ["0 %", "0.3 %", "9 %", "17 %"]
    assert [size(value) for value in (12, 4392352, 7e12)] == ["12 B", "4.4 MB", "7.0 TB"]
