"""The curves of a step as files beside the run's record: a picture, and a table for other programs."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from tuneforge_registry import Registry

from .charts import CHART_SIZE, line_chart
from .figures import number, words
from .points import Curve, Point, curves_of, points_of

_LEAST = 3  # points of a curve that is worth a file
_ACROSS, _GAP, _HEAD = 3, 20, 26

# The page's own colours, which a file that stands alone cannot take from it.
_STYLE = """
svg { overflow: visible; }
svg { --paper: #faf9f6; --ink: #1e2429; --quiet: #59636d; --line: #e2ded5; --accent: #1d5c86; --soft: #a9c7db; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #15181b; --ink: #e7e4dd; --quiet: #9fa9b2; --line: #30363c; --accent: #84bde3; --soft: #3d6482; }
}
rect { fill: var(--paper); } text { font: 11px sans-serif; fill: var(--quiet); } .head { fill: var(--ink); font-weight: 600; font-size: 12px; }
.grid { stroke: var(--line); } path { fill: none; stroke: var(--accent); stroke-width: 1.9; stroke-linejoin: round; }
.raw { stroke: var(--soft); stroke-width: 1.1; } circle { fill: var(--accent); } .reading { visibility: hidden; }
"""  # noqa: E501


def write_curves(registry: Registry, run: str, step: str, key: str) -> str:
    """Writes `<step>.curves.svg` and `.csv` into the folder of the run, and returns where they lie.

    Nothing where the step told no figures on its way. What an interrupted run did of the same work is in them.
    """
    points = points_of(registry, run, step, key, whole=True)
    curves = [curve for curve in curves_of(points) if len(curve.values) >= _LEAST]
    if not curves:
        return ""
    picture = registry.run_folder(run) / f"{step}.curves.svg"
    picture.write_text(draw(curves), encoding="utf-8")
    table = picture.with_suffix(".csv")
    write_table(points, table)
    return f"curves: {picture} and {table.name}"


def write_table(points: Sequence[Point], path: Path) -> None:
    """A row for each point: how much was done, of how much, after how many seconds, and the figures."""
    names = list(dict.fromkeys(name for point in points for name in point.figures))
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["done", "total", "seconds", *names])
        for point in points:
            told = (point.figures.get(name, "") for name in names)
            rows.writerow([f"{point.done:g}", f"{point.total:g}", round(point.seconds, 3), *told])


def draw(curves: Sequence[Curve]) -> str:
    """The curves side by side, as an SVG file that needs nothing but itself."""
    wide, high = CHART_SIZE
    across = min(_ACROSS, len(curves))
    down = -(-len(curves) // across)
    width, height = across * (wide + _GAP) + _GAP, down * (high + _HEAD + _GAP) + _GAP
    panels = []
    for place, curve in enumerate(curves):
        x, y = _GAP + place % across * (wide + _GAP), _GAP + place // across * (high + _HEAD + _GAP)
        head = Markup('<text class="head" x="{}" y="{}">{}</text><text x="{}" y="{}" text-anchor="end">{}</text>')
        panels.append(head.format(x, y + 12, words(curve.name), x + wide, y + 12, number(curve.values[-1])))
        # The data for pointing at a curve are the page's.
        chart = re.sub(r' (data-\w+|tabindex)="[^"]*"', "", str(line_chart(curve)))
        panels.append(
            Markup(chart.replace("<svg ", f'<svg x="{x}" y="{y + _HEAD}" width="{wide}" height="{high}" ', 1))
        )
    size = Markup('width="{0}" height="{1}" viewBox="0 0 {0} {1}"').format(width, height)
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" {}><style>{}</style><rect width="100%" height="100%"/>{}</svg>\n'
        ).format(size, Markup(_STYLE), Markup("").join(panels))
    )
