"""Inline SVG: curves, the picture of the steps, marks. All that is not drawn here is text in the template."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from markupsafe import Markup

from ..recipe import REGISTRY
from ..sweeps.repeats import word_of
from .figures import duration, number, words
from .gather import StepReport
from .graph import Box, Picture
from .points import Curve
from .sweeps import Figure, Sweep
from .texts import cut

_DRAWN = 320  # points of a curve: one every second pixel or so
_WIDTH, _HEIGHT = CHART_SIZE = 312, 186
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 24
_INSET = 18  # of the first and last point of a sweep, so that their labels are under them

SERIES = 5
"""Lines of a chart that look different from each other."""

_MARKS = {
    "passed": "M2.5 6.5 5 9 9.5 3.5",
    "done": "M2.5 6.5 5 9 9.5 3.5",
    "cached": "M2.5 6.5 5 9 9.5 3.5",
    "failed": "M3 3l6 6M9 3l-6 6",
    "interrupted": "M4.5 3v6M7.5 3v6",
    "skipped": "M3 6h6",
    "running": "M2.5 6h.01M6 6h.01M9.5 6h.01",
}


def mark(status: str) -> Markup:
    """The sign of a status, 12 by 12 pixels. The word stands beside it, so it is hidden from who reads aloud."""
    svg = '<svg class="mark" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true"><path d="{}"/></svg>'
    return Markup(svg).format(_sign(status))


def _sign(status: str) -> str:
    return _MARKS.get(status, _MARKS["skipped"])


def line_chart(curve: Curve) -> Markup:
    """A curve with its axes. Where it is noisy its points are light, and a smoothed line goes through them."""
    smooth = _smoothed(curve.values) if _is_noisy(curve.values) else list(curve.values)
    noisy = smooth != list(curve.values)
    kept = _thinned(curve.values, _DRAWN)
    done = [curve.done[index] for index in kept]
    across = _Scale(min(0.0, *done), max(curve.total, *done), _LEFT, _WIDTH - _RIGHT, 5)
    least, most = min(curve.values), max(curve.values)
    up = _Scale(0.0 if 0 <= least < 0.4 * most else least, most, _HEIGHT - _BOTTOM, _TOP, 4)
    raw = [(across(at), up(curve.values[index])) for at, index in zip(done, kept, strict=True)]
    line = [(across(at), up(smooth[index])) for at, index in zip(done, kept, strict=True)]
    told = [
        f"{number(curve.values[index])} at {number(curve.done[index])}, after {duration(curve.seconds[index])}"
        for index in kept
    ]
    data = Markup('data-x="{}" data-y="{}" data-told="{}"').format(
        " ".join(f"{x:.1f}" for x, _ in line), " ".join(f"{y:.1f}" for _, y in line), "|".join(told)
    )
    parts = [*_levels(up), *(_below(across(tick), _tick(tick, across.step)) for tick in across.ticks)]
    if noisy:
        parts.append(Markup('<path class="raw" d="{}"/>').format(_path(raw)))
    if len(line) == 1:
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"/>').format(*line[0]))
    else:
        parts.append(Markup('<path class="line" d="{}"/>').format(_path(line)))
    return _chart(parts, data, _told(curve))


def sweep_chart(sweep: Sweep, figure: Figure) -> Markup:
    """A figure over the values that a step was repeated for, a line for every value of a second option.

    Values that are no numbers stand side by side, with no line between them.
    """
    given: list[Any] = [row.each.get(sweep.across) for row in sweep.rows]
    apart = [value for place, value in enumerate(given) if value not in given[:place]]
    at = [float(value) if sweep.ordered else apart.index(value) for value in given]
    places = [math.log10(value) for value in at] if sweep.logarithmic else at
    inset = _INSET if sweep.ordered else 3 * _INSET - 8
    across = _Scale(min(places), max(places), _LEFT + inset, _WIDTH - _RIGHT - inset, 5)
    there = [value for value in figure.values if value is not None]
    least, most = min(there), max(there)
    up = _Scale(0.0 if 0 <= least < 0.4 * most else least, most, _HEIGHT - _BOTTOM, _TOP, 4)
    short = [value.rpartition("/")[2] if isinstance(value, str) else value for value in given]
    ticks = {across(place): word_of(value) for place, value in zip(places, short, strict=True)}
    parts = [*_levels(up), *(_below(x, cut(told, 14)) for x, told in _with_room(ticks))]
    points: list[tuple[float, float, str]] = []
    for number_of, line in enumerate(sweep.lines, 1):
        drawn = [
            (across(places[row]), up(value), row) for row in line.rows if (value := figure.values[row]) is not None
        ]
        style = f"s{(number_of - 1) % SERIES + 1}"
        if sweep.ordered and len(drawn) > 1:
            parts.append(Markup('<path class="line {}" d="{}"/>').format(style, _path([(x, y) for x, y, _ in drawn])))
        for x, y, row in drawn:
            best = " best" if figure.values[row] == figure.best else ""
            parts.append(Markup('<circle class="{}{}" cx="{:.1f}" cy="{:.1f}" r="3.2"/>').format(style, best, x, y))
            points.append((x, y, f"{number(figure.values[row] or 0.0)} at {_place(sweep, row)}".replace("|", "/")))
    points.sort()
    data = Markup('data-x="{}" data-y="{}" data-told="{}"').format(
        " ".join(f"{x:.1f}" for x, _, _ in points),
        " ".join(f"{y:.1f}" for _, y, _ in points),
        "|".join(told for _, _, told in points),
    )
    return _chart(parts, data, f"{figure.name} by {words(sweep.across)}: {'; '.join(told for _, _, told in points)}")


def _place(sweep: Sweep, row: int) -> str:
    return ", ".join(f"{words(key)} {sweep.rows[row].told(key)}" for key in sweep.keys if key in sweep.rows[row].each)


def _with_room(ticks: Mapping[float, str]) -> Iterator[tuple[float, str]]:
    """The labels that do not run into the one before."""
    end = -math.inf
    for x, told in sorted(ticks.items()):
        half = 3.2 * min(len(told), 14)  # an average letter's width is 6.4
        if x - half >= end:
            yield x, told
            end = x + half + 4


def _levels(up: _Scale) -> Iterator[Markup]:
    for tick in up.ticks:
        yield Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/><text x="{}" y="{:.1f}" ').format(
            _LEFT, _WIDTH - _RIGHT, _LEFT - 6, up(tick) + 3.5, y=up(tick)
        ) + Markup('text-anchor="end">{}</text>').format(_tick(tick, up.step))


def _below(x: float, told: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x, _HEIGHT - 8, told)


def _chart(parts: Sequence[Markup], data: Markup, told: str) -> Markup:
    reading = Markup('<g class="reading"><line y1="{}" y2="{}"/><circle r="3.5"/></g>')
    inside = Markup("").join([*parts, reading.format(_TOP, _HEIGHT - _BOTTOM)])
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{}" {}><title>{}</title>{}</svg>'
    ).format(_WIDTH, _HEIGHT, told, data, told, inside)


def _told(curve: Curve) -> str:
    least = min(range(len(curve.values)), key=curve.values.__getitem__)
    most = max(range(len(curve.values)), key=curve.values.__getitem__)
    return (
        f"{words(curve.name)}: {number(curve.values[0])} at first, {number(curve.values[-1])} at last, "
        f"least {number(curve.values[least])} at {number(curve.done[least])}, "
        f"greatest {number(curve.values[most])} at {number(curve.done[most])}"
    )


class _Scale:
    """Maps values to pixels, over a range that holds them all and begins and ends well."""

    def __init__(self, least: float, most: float, start: float, end: float, ticks: int) -> None:
        if least == most:
            room = abs(least) / 2 or 1.0
            least, most = least - room, most + room
        raw = (most - least) / ticks
        power = 10.0 ** math.floor(math.log10(raw))
        self.step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= raw * 0.999)
        self._least, self._most = least, most
        if end < start:  # upwards, the lines that frame a curve are those of the ticks
            self._least = math.floor(least / self.step + 1e-9) * self.step
            self._most = math.ceil(most / self.step - 1e-9) * self.step
        first = math.ceil(self._least / self.step - 1e-9)
        last = math.floor(self._most / self.step + 1e-9)
        self.ticks = [place * self.step for place in range(first, last + 1)]
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        return self._start + (value - self._least) / (self._most - self._least) * (self._end - self._start)


def _tick(value: float, step: float) -> str:
    """As many digits as tell one tick from the next."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or step < 1e-4:
        mantissa, _, power = f"{value:.{max(0, _digits(value) - _digits(step))}e}".partition("e")
        return f"{float(mantissa):g}e{int(power)}"
    return f"{value:,.{max(0, -_digits(step))}f}"


def _digits(value: float) -> int:
    return math.floor(math.log10(abs(value)) + 1e-9)


def _is_noisy(values: Sequence[float]) -> bool:
    """Whether a curve goes up and down so much that its course is hard to see."""
    if len(values) < 16:
        return False
    way = sum(abs(after - before) for before, after in pairwise(values))
    return way > 2.5 * (max(values) - min(values)) > 0


def _smoothed(values: Sequence[float]) -> list[float]:
    """The mean over a window around each point, twice; at the ends the window is cut on both sides, so none is bent."""
    reach = max(2, len(values) // 24)
    smooth = list(values)
    for _ in range(2):
        sums = [0.0, *accumulate(smooth)]
        smooth = [
            (sums[place + near + 1] - sums[place - near]) / (2 * near + 1)
            for place in range(len(smooth))
            for near in (min(reach, place, len(smooth) - 1 - place),)
        ]
    return smooth


def _thinned(values: Sequence[float], most: int) -> list[int]:
    """Indices of points to draw: the least and the greatest of each stretch, so that no peak is lost."""
    if len(values) <= most:
        return list(range(len(values)))
    stretches = most // 2
    kept = {0, len(values) - 1}
    for stretch in range(stretches):
        inside = range(len(values) * stretch // stretches, len(values) * (stretch + 1) // stretches)
        kept |= {min(inside, key=values.__getitem__), max(inside, key=values.__getitem__)}
    return sorted(kept)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def step_picture(picture: Picture, steps: Mapping[str, StepReport], anchors: Mapping[str, str], label: str) -> Markup:
    """The graph of the steps; each box leads to what is told of its step."""
    parts = [wire_path(wire.points, picture.down) for wire in picture.wires]
    parts += [_box(box, steps.get(box.name), anchors.get(box.name, "#steps")) for box in picture.boxes]
    width, height = math.ceil(picture.width), math.ceil(picture.height)
    return Markup(
        '<svg class="graph" width="{}" height="{}" viewBox="0 0 {} {}" role="group" aria-label="{}">{}</svg>'
    ).format(width, height, width, height, label, Markup("").join(parts))


def _box(box: Box, step: StepReport | None, anchor: str) -> Markup:
    """A step's name, method (or what sets a repeat apart) and status; of None, what the run found in the registry."""
    if step is None:
        status, name, method, told = "registry", box.name.removeprefix(REGISTRY), "from the registry", ""
    else:
        status, name, method = step.status, step.name, f"{step.stage}: {step.method}"
        told = status if status in ("cached", "skipped") else f"{status} · {duration(step.seconds)}"
    title, second = (step.of, step.name.removeprefix(step.of)) if step and step.of else (name, method)
    room = int((box.width - 18) / 6.4)  # letters
    text = Markup('<text class="{}" x="{}" y="{}">{}</text>')
    inside = text.format("name", 10, 20, cut(title, room)) + text.format("method", 10, 36, cut(second, int(room * 1.1)))
    if told:
        inside += text.format("told", 26, 52, cut(told, room))
        inside += Markup('<path class="sign" transform="translate(10 42)" d="{}"/>').format(_sign(status))
    place = Markup('x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"').format(box.x, box.y, box.width, box.height)
    return Markup(
        '<a href="{}"><svg class="box {}" {}><title>{}</title>'
        '<rect x=".75" y=".75" width="{:.1f}" height="{:.1f}" rx="7"/>{}</svg></a>'
    ).format(anchor, status, place, f"{name}, {method}, {told}", box.width - 1.5, box.height - 1.5, inside)


def wire_path(points: Sequence[tuple[float, float]], down: bool) -> Markup:
    x, y = points[0]
    path = [f"M{x:.1f} {y:.1f}"]
    for place, (to_x, to_y) in enumerate(points[1:]):
        if place % 2:  # along a lane
            path.append(f"L{to_x:.1f} {to_y:.1f}")
        elif down:
            middle = (y + to_y) / 2
            path.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
        else:
            middle = (x + to_x) / 2
            path.append(f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    ends = ((x - 4, y - 6), (x + 4, y - 6)) if down else ((x - 6, y - 4), (x - 6, y + 4))
    tip = _path([ends[0], (x, y), ends[1]])
    return Markup('<path class="wire" d="{}"/><path class="wire" d="{}"/>').format("".join(path), tip)
