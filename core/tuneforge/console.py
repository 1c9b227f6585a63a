"""How a person sees a plan and a run: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .errors import Finding
from .events import Ended, Event, Logged, Progressed, Started
from .plan import Plan

STYLES = {
    "cached": "cyan",
    "done": "green",
    "run": "yellow",
    "failed": "bold red",
    "blocked": "bold red",
    "skipped": "dim",
    "waiting": "dim",
}


def open_console(stderr: bool = False) -> Console:
    """The terminal as it is; where output goes to a file or a pipe, wide enough that tables keep to their lines."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def show_findings(console: Console, findings: list[Finding]) -> None:
    """Errors and warnings, one under another."""
    for finding in findings:
        style = "yellow" if finding.level == "warning" else "red"
        place = f"[bold]{escape(finding.place)}[/]: " if finding.place else ""
        console.print(f"{place}[{style}]{finding.level}[/]: {escape(finding.problem)}", soft_wrap=True, highlight=False)
        if finding.fix:
            console.print(f"    {escape(finding.fix)}", soft_wrap=True, highlight=False)


def show_plan(console: Console, plan: Plan) -> None:
    """The steps of a plan and what would be done with each."""
    table = Table(box=None, pad_edge=False, title=escape(plan.recipe.name), title_justify="left")
    for column in ("step", "method", "gives", "status", "key", ""):
        table.add_column(column, overflow="fold")
    for step in plan.steps.values():
        note = step.reason
        if step.status == "run" and step.environment and step.environment.own:
            state = "ready" if step.environment.ready else "to be made"
            note += f"; in an environment of its own ({state}): {', '.join(step.environment.unmet)}"
        table.add_row(
            step.name,
            f"{step.method.stage}: {step.method.name}",
            step.result.kind.kind if step.result else "?",
            Text(step.status, STYLES[step.status]),
            step.key[:10] if step.key else "",
            Text(note, "dim"),
        )
    console.print(table)


class Watch:
    """Shows a run while it goes on. In a terminal the table is redrawn; elsewhere each event is a line."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal else None
        self._rows: dict[str, _Row] = {
            step.name: _Row(step.name, f"{step.method.stage}: {step.method.name}") for step in plan.steps.values()
        }
        self._told = 0.0

    def __enter__(self) -> Watch:
        if self._live:
            self._live.start()
            self._live.update(self._table())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            for row in self._rows.values():
                row.over()
            self._live.update(self._table())
            self._live.stop()

    def __call__(self, event: Event) -> None:
        row = self._rows[event.step]
        match event:
            case Started():
                row.start()
                self._told = 0.0
            case Logged(text=text):
                if self._live:
                    self._live.console.print(Text(f"{event.step}: {text}", "dim"), soft_wrap=True)
                else:
                    self._line(f"{event.step}: {text}")
            case Progressed():
                row.progress = event
                if not self._live and (time.monotonic() - self._told > 5 or event.done >= event.total):
                    self._told = time.monotonic()
                    self._line(f"{event.step}: {event.done:g}/{event.total:g} {_figures(event.figures)}")
            case Ended():
                row.ended = event
                if not self._live:
                    digest = event.digest[:12] if event.digest else ""
                    took = f"{event.seconds:.1f} s" if event.status in ("done", "failed") else ""
                    self._line(" ".join(part for part in (f"{event.step}: {event.status}", took, digest) if part))
        if self._live:
            self._live.update(self._table())

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for column in ("", "step", "method", "result", "time", "progress"):
            table.add_column(column)
        for row in self._rows.values():
            table.add_row(*row.cells())
        return Group(table)


class _Row:
    def __init__(self, name: str, method: str) -> None:
        self.name = name
        self.method = method
        self.started: float | None = None
        self.progress: Progressed | None = None
        self.ended: Ended | None = None
        self._spinner = Spinner("dots")

    def start(self) -> None:
        self.started = time.monotonic()

    def over(self) -> None:
        """The run is over: what had begun and has no end was interrupted."""
        if self.ended is None:
            self.ended = Ended(self.name, "skipped")

    def cells(self) -> tuple[RenderableType, ...]:
        ended = self.ended
        if ended:
            mark: RenderableType = Text({"failed": "x", "skipped": "-"}.get(ended.status, "✓"), STYLES[ended.status])
            seconds = f"{ended.seconds:.1f} s" if ended.status in ("done", "failed") else ended.status
            result = f"{ended.kind} {ended.digest[:10]}" if ended.digest and ended.kind else ""
            return mark, self.name, self.method, result, seconds, Text(_figures(ended.metrics), "dim")
        if self.started is None:
            return "", Text(self.name, "dim"), Text(self.method, "dim"), "", "", ""
        progress: RenderableType = ""
        if self.progress:
            bar = ProgressBar(self.progress.total, self.progress.done, width=24)
            count = f" {self.progress.done:g}/{self.progress.total:g} {_figures(self.progress.figures)}"
            grid = Table.grid()
            grid.add_row(bar, count)
            progress = grid
        return self._spinner, self.name, self.method, "", f"{time.monotonic() - self.started:.0f} s", progress


def _figures(figures: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in figures.items() if isinstance(value, (int, float))}
    return "  ".join(f"{name} {value:.4g}" for name, value in list(plain.items())[:5])


def show_scores(console: Console, record: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> None:
    """The scores of a run's reports, models side by side under the names that the run gave them."""
    names: dict[str, str] = {}
    for step in record["steps"]:
        if step["digest"]:
            names.setdefault(step["digest"], step["name"])
    for title, report in reports.items():
        if not report.get("scores"):
            continue
        metrics = list(dict.fromkeys(metric for scores in report["scores"].values() for metric in scores))
        verdict = "" if report.get("passed", True) else "  (failed)"
        table = Table(title=escape(f"{title}{verdict}"), title_justify="left", box=None, pad_edge=False)
        table.add_column("model")
        for metric in metrics:
            table.add_column(metric.replace("_", " "), justify="right")
        for digest, scores in report["scores"].items():
            cells = [_number(scores.get(metric)) for metric in metrics]
            table.add_row(names.get(digest, digest[:12]), *cells)
        console.print()
        console.print(table)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
