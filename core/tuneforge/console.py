"""How a person sees a plan and a run.

Drawn without rich where a few columns are all there is: to import it takes an eighth of the time of a plan.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO

import click

from .errors import Finding

if TYPE_CHECKING:
    from rich.console import Console

    from .events import Event, Observer
    from .plan import Plan, PlannedStep
    from .report.sweeps import Sweep

COLOURS = {"cached": "cyan", "done": "green", "run": "yellow", "failed": "red", "blocked": "red"}
"""Of the states of a step; the others are dim."""


def open_console(stderr: bool = False) -> Console:
    """The terminal as it is; where output goes to a file or a pipe, wide enough that tables keep to their lines."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def wants_colour() -> bool | None:
    """What the environment says of colours, as rich reads it; None where it is for the terminal to say."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # None: it was closed


def show_findings(findings: Sequence[Finding]) -> None:
    """Errors and warnings, one under another, on standard error."""
    for finding in findings:
        place = f"{click.style(finding.place, bold=True)}: " if finding.place else ""
        level = click.style(finding.level, "yellow" if finding.level == "warning" else "red")
        click.echo(f"{place}{level}: {finding.problem}", err=True)
        if finding.fix:
            click.echo(f"    {finding.fix}", err=True)


def show_plan(plan: Plan) -> None:
    """The steps of a plan and what would be done with each."""
    head = ("step", "method", "gives", "status", "key")
    steps = list(plan.steps.values())
    first, *rows = _aligned([head, *(_cells(step) for step in steps)])
    click.secho(plan.recipe.name, italic=True)
    click.secho("  ".join(first).rstrip(), bold=True)
    indent = len("  ".join((*first, "")))
    room = max(12, shutil.get_terminal_size().columns - indent) if _is_terminal(sys.stdout) else None
    for step, (*cells, status, key) in zip(steps, rows, strict=True):
        note = _note(step)
        folded = click.wrap_text(note, room).splitlines() if room else [note]
        cells += [click.style(status, COLOURS.get(step.status), dim=step.status not in COLOURS or None), key]
        click.echo("  ".join([*cells, click.style(folded[0], dim=True) if note else ""]).rstrip())
        for line in folded[1:]:
            click.echo(" " * indent + click.style(line, dim=True))
    if plan.recipe.trackers:
        click.echo(f"tracked by {', '.join(_tracked(plan))}")


def _tracked(plan: Plan) -> Iterator[str]:
    from .environments import environment_for

    for name, tracker in plan.recipe.trackers.items():
        environment = environment_for(tracker.needs, plan.registry.home)
        state = "ready" if environment.ready else "to be made"
        yield f"{name} (in an environment of its own, {state})" if environment.own else name


def _cells(step: PlannedStep) -> tuple[str, ...]:
    method = f"{step.method.stage}: {step.method.name}"
    return step.name, method, step.result.kind.kind if step.result else "?", step.status, (step.key or "")[:10]


def _note(step: PlannedStep) -> str:
    notes = [f"added by {step.spec.added_by}" if step.spec.added_by else "", step.reason]
    if step.status == "run" and step.launch:
        notes.append(f"on {step.launch}")
    if step.status == "run" and step.environment and step.environment.own:
        state = "ready" if step.environment.ready else "to be made"
        notes.append(f"in an environment of its own ({state}): {', '.join(step.environment.unmet)}")
    return "; ".join(note for note in notes if note)


def _aligned(rows: Sequence[Sequence[str]], justify: Callable[[str, int], str] = str.ljust) -> Iterator[list[str]]:
    """The rows with every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ([justify(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows)


def watch(plan: Plan, stderr: bool = False) -> AbstractContextManager[Observer]:
    """Shows a run while it goes on. In a terminal a table is redrawn; elsewhere each event is a line."""
    stream = sys.stderr if stderr else sys.stdout
    if not _is_terminal(stream):
        return nullcontext(_Lines(stderr))
    from .live import LiveTable

    return LiveTable(open_console(stderr), plan)


class _Lines:
    def __init__(self, stderr: bool) -> None:
        self._stderr = stderr
        self._told = 0.0

    def __call__(self, event: Event) -> None:
        from .events import Ended, Logged, Progressed, Started

        match event:
            case Started():
                self._told = 0.0
            case Logged(text=text):
                self._line(f"{event.step}: {text}" if event.step else text)
            case Progressed() if time.monotonic() - self._told > 5 or event.done >= event.total:
                self._told = time.monotonic()
                self._line(f"{event.step}: {amount(event.done)}/{amount(event.total)} {figures(event.figures)}")
            case Ended():
                digest = event.digest[:12] if event.digest else ""
                took = f"{event.seconds:.1f} s" if event.status in ("done", "failed") else ""
                self._line(" ".join(part for part in (f"{event.step}: {event.status}", took, digest) if part))

    def _line(self, text: str) -> None:
        click.echo(text, err=self._stderr)


def amount(value: float) -> str:
    """A count in full, 12,345,678; what is no whole number in six digits."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def figures(given: Mapping[str, Any]) -> str:
    """The first few numbers of many, on one line."""
    plain = {name: value for name, value in given.items() if isinstance(value, (int, float))}
    return "  ".join(f"{name} {value:.4g}" for name, value in list(plain.items())[:5])


def show_scores(record: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> None:
    """The scores of a run's reports, models side by side under the names that the run gave them."""
    names: dict[str, str] = {}
    for step in record["steps"]:
        if step["digest"]:
            names.setdefault(step["digest"], step["name"])
    for title, report in reports.items():
        if not report.get("scores"):
            continue
        metrics = list(dict.fromkeys(metric for scores in report["scores"].values() for metric in scores))
        rows = [["model", *(metric.replace("_", " ") for metric in metrics)]]
        for digest, scores in report["scores"].items():
            rows.append([names.get(digest, digest[:12]), *(_number(scores.get(metric)) for metric in metrics)])
        models = _aligned([row[:1] for row in rows])
        numbers = _aligned([row[1:] for row in rows], str.rjust)
        first, *lines = ("  ".join(model + row) for model, row in zip(models, numbers, strict=True))
        click.secho(f"\n{title}" + ("" if report.get("passed", True) else "  (failed)"), italic=True)
        click.secho(first, bold=True)
        for line in lines:
            click.echo(line)


def show_sweeps(found: Sequence[Sweep]) -> None:
    """The repeats of a run's steps side by side; the best of a column is bold."""
    from .report.figures import number

    for sweep in found:
        head = [*sweep.keys, *(figure.name for figure in sweep.figures)]
        rows = [
            [row.told(key) for key in sweep.keys]
            + [number(value) if (value := figure.values[place]) is not None else "none" for figure in sweep.figures]
            for place, row in enumerate(sweep.rows)
        ]
        first, *lines = _aligned([[name.replace("_", " ") for name in head], *rows], str.rjust)
        click.secho(f"\n{', '.join(sweep.steps)} for each {' and '.join(sweep.keys).replace('_', ' ')}", italic=True)
        click.secho("  ".join(first), bold=True)
        for place, cells in enumerate(lines):
            for column, figure in enumerate(sweep.figures, len(sweep.keys)):
                value = figure.values[place]
                cells[column] = click.style(cells[column], bold=(value is not None and value == figure.best) or None)
            click.echo("  ".join(cells))


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
