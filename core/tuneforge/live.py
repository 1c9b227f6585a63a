"""A run as a table that is redrawn while it goes on, for a person at a terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .console import COLOURS, amount, figures
from .events import Ended, Event, Logged, Progressed, Started
from .plan import Plan


class LiveTable:
    """Shows every step on a line of its own, and what the steps say above."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=False)
        self._rows: dict[str, _Row] = {
            step.name: _Row(step.name, f"{step.method.stage}: {step.method.name}") for step in plan.steps.values()
        }

    def __enter__(self) -> LiveTable:
        self._live.start()
        self._live.update(self._table())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for row in self._rows.values():
            row.over()
        self._live.update(self._table())
        self._live.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._rows[event.step].start()
            case Logged(text=text):
                self._live.console.print(Text(f"{event.step}: {text}" if event.step else text, "dim"), soft_wrap=True)
            case Progressed():
                self._rows[event.step].progress = event
            case Ended():
                self._rows[event.step].ended = event
        self._live.update(self._table())

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for column in ("", "step", "method", "result", "time", "progress"):
            table.add_column(column, overflow="fold" if column == "step" else "ellipsis")  # repeats differ at the end
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
            mark = {"failed": "x", "skipped": "-"}.get(ended.status, "✓")
            shown = Text(mark, COLOURS.get(ended.status, "dim"))
            seconds = f"{ended.seconds:.1f} s" if ended.status in ("done", "failed") else ended.status
            result = f"{ended.kind} {ended.digest[:10]}" if ended.digest and ended.kind else ""
            return shown, self.name, self.method, result, seconds, Text(figures(ended.metrics), "dim")
        if self.started is None:
            return "", Text(self.name, "dim"), Text(self.method, "dim"), "", "", ""
        progress: RenderableType = ""
        if self.progress:
            bar = ProgressBar(self.progress.total, self.progress.done, width=24)
            count = f" {amount(self.progress.done)}/{amount(self.progress.total)} {figures(self.progress.figures)}"
            grid = Table.grid()
            grid.add_row(bar, count)
            progress = grid
        return self._spinner, self.name, self.method, "", f"{time.monotonic() - self.started:.0f} s", progress
