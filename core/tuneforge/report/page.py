"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from . import charts, figures
from .gather import RunReport, is_reference
from .graph import fitting
from .texts import as_text, cut

PAGE = "report.html"
"""What the page is called in the folder of its run."""

_HERE = Path(__file__).parent
_WIDE, _NARROW = 1060, 350  # pixels that a picture has on a desk and on a phone
_LONG = 1000  # characters of a sample that are shown
_FEW = 6  # curves of a step that are shown at once, and steps whose curves are


def write_page(run: RunReport, path: Path) -> None:
    """Writes the page of a run in one stroke."""
    page = render(run)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(page, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def render(run: RunReport) -> str:
    """The page of a run. It may load nothing and run nothing but its own script, and says so to the browser."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(_HERE),
        bytecode_cache=_compiled(),
    )
    environment.filters |= {
        "number": figures.number,
        "change": figures.change,
        "duration": figures.duration,
        "size": figures.size,
        "share": figures.share,
        "words": figures.words,
        "value": _value,
        "cut": lambda text: cut(text, _LONG),
    }
    anchors = {step.name: f"#step-{place}" for place, step in enumerate(run.steps, 1)}
    return environment.get_template("page.html.jinja").render(
        run=run,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        mark=charts.mark,
        chart=charts.line_chart,
        sweep_chart=charts.sweep_chart,
        series=charts.SERIES,
        pictures=_pictures(run, anchors),
        anchors=anchors,
        few=_FEW,
        leaves=lambda values: _leaves(values, {step.made.digest: step.name for step in run.steps if step.made}),
        version=__version__,
        whole=max((step.began + step.seconds for step in run.steps), default=0.0) or 1.0,
        counts=_counts(run),
    )


def _compiled() -> FileSystemBytecodeCache | None:
    """Where the compiled template is kept, as to compile it takes longer than all the rest: beside Python's own."""
    folder = _HERE / "__pycache__"
    if sys.dont_write_bytecode or not os.access(folder, os.W_OK):
        return None
    return FileSystemBytecodeCache(str(folder), "page-%s.cache")


def _pictures(run: RunReport, anchors: Mapping[str, str]) -> dict[str, Markup]:
    """The steps as they fit on a desk and on a phone."""
    steps = {step.name: step for step in run.steps}
    sources = {wire: list[str]() for step in run.steps for wire in step.sources if is_reference(wire)}
    sources |= {step.name: [wire for wire in step.sources if wire in steps or is_reference(wire)] for step in run.steps}
    label = f"The steps of {run.recipe} and how they are wired"
    return {
        name: charts.step_picture(fitting(sources, room), steps, anchors, label)
        for name, room in (("wide", _WIDE), ("narrow", _NARROW))
    }


def _counts(run: RunReport) -> dict[str, int]:
    """How many steps have each status, in the order in which they came."""
    counts: dict[str, int] = {}
    for step in run.steps:
        counts[step.status] = counts.get(step.status, 0) + 1
    return counts


def _leaves(values: Mapping[str, Any], called: Mapping[str, str], path: str = "") -> list[tuple[str, Any]]:
    """Dotted names and plain values of a nested block of options or figures; a digest under its name in the run."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        here = path + called.get(name, name)
        if isinstance(value, Mapping) and value:
            found.extend(_leaves(value, called, f"{here}."))
        else:
            found.append((here, value))
    return found


def _value(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    return figures.number(value) if figures.is_number(value) else as_text(value)
