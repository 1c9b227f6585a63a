"""The report as a terminal shows it: shorter than the page, in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .answers import Answer, Exercise, Sheet
from .figures import change, duration, number, share, words
from .gather import RunReport, StepReport
from .left_out import LeftOut
from .scores import Evaluation, Score
from .sweeps import Figure, Sweep
from .texts import cut

_MARKS = {"done": "✓", "cached": "✓", "failed": "x", "interrupted": "x", "running": "…"}
_STYLES = {"done": "green", "cached": "cyan", "failed": "red", "interrupted": "red", "running": "yellow"}
_TURNS = {"better": "green", "worse": "red", "": "dim"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_EXERCISES = 3
_TIME = 20  # characters of the longest bar
_SPARK = 24


def show(console: Console, run: RunReport) -> None:
    """Prints the report of a run."""
    parts = [_head(run), *_warnings(run), _steps(run), *(_sweep(found) for found in run.sweeps)]
    parts += [*_curves(run), *_samples(run)]
    parts += [_scores(found) for found in run.evaluations]
    parts += [_answers(sheet) for sheet in run.sheets]
    parts += [_left_out(run.left_out)] if run.left_out else []
    for part in parts:
        console.print(part)
        console.print()


def _head(run: RunReport) -> RenderableType:
    when = f"{run.started:%d %b %Y %H:%M %Z}" if run.started else ""
    took = duration(run.seconds) if run.seconds is not None else ""
    facts = ", ".join(part for part in (when, took, f"run {run.id}", f"tuneforge {run.version}".strip()) if part)
    lines = [
        Text.assemble((run.recipe, "bold"), "  ", (f"{_mark(run.status)} {run.status}", _style(run.status))),
        Text(facts, "dim"),
        *(Text(f"--set {setting}", "dim") for setting in run.settings),
    ]
    if run.failure:
        place = f"step {run.failure.step}: " if run.failure.step else ""
        lines += [Text(), Text(place + run.failure.problem, "red"), Text(run.failure.fix)]
    return Group(*lines)


def _steps(run: RunReport) -> RenderableType:
    table = _table("", "step", "method", "time", "", "result", "called")
    longest = max((step.seconds for step in run.steps), default=0.0) or 1.0
    for step in run.steps:
        took = duration(step.seconds) if step.status not in ("cached", "skipped") else step.status
        made = step.made
        table.add_row(
            Text(_mark(step.status), _style(step.status)),
            Text(step.name),
            Text(f"{step.stage}: {step.method}", "dim"),
            Text(took, "dim" if step.status in ("cached", "skipped") else ""),
            Text("━" * round(_TIME * step.seconds / longest), "blue"),
            Text(f"{made.kind} {made.digest[:12]}" if made else ""),
            Text(", ".join(made.names) if made else ""),
        )
    table.columns[3].justify = "right"
    return table


def _sweep(found: Sweep) -> RenderableType:
    table = _table(*map(words, found.keys), *(figure.name for figure in found.figures))
    for column in table.columns:
        column.justify = "right"
    for place, row in enumerate(found.rows):
        table.add_row(*(Text(row.told(key)) for key in found.keys), *(_figure(one, place) for one in found.figures))
    return Group(
        Text.assemble((", ".join(found.steps), "bold"), f" for each {' and '.join(map(words, found.keys))}"), table
    )


def _figure(figure: Figure, place: int) -> Text:
    value = figure.values[place]
    return Text("none", "dim") if value is None else Text(number(value), "bold" if value == figure.best else "")


def _warnings(run: RunReport) -> Iterator[RenderableType]:
    lines = []
    for step in run.steps:
        for told in step.warnings:
            lines += [Text(f"{step.name}: warning: {told.problem}", "yellow")]
            lines += [Text(f"    {told.fix}")] if told.fix else []
    if lines:
        yield Group(*lines)


def _curves(run: RunReport) -> Iterator[RenderableType]:
    curved: list[StepReport] = [step for step in run.steps if step.curves]
    if not curved:
        return
    table = _table("curve", "", "", "from", "to")
    for step in curved:
        for place, curve in enumerate(step.curves):
            table.add_row(
                Text("" if place else step.name),
                Text(words(curve.name)),
                Text(sparkline(curve.values), "blue"),
                number(curve.values[0]),
                number(curve.values[-1]),
            )
    yield table


def sparkline(values: Sequence[float]) -> str:
    """A curve in one line of text: the mean of each stretch as one of eight heights."""
    count = min(_SPARK, len(values))
    bounds = [len(values) * place // count for place in range(count + 1)]
    means = [sum(values[low:high]) / (high - low) for low, high in pairwise(bounds)]
    least, most = min(means), max(means)
    if least == most:
        return _BLOCKS[3] * count
    return "".join(_BLOCKS[round((mean - least) / (most - least) * (len(_BLOCKS) - 1))] for mean in means)


def _samples(run: RunReport) -> Iterator[RenderableType]:
    """The answers at the first moment, in the middle and at the last."""
    for step in run.steps:
        samples = step.samples
        if samples is None:
            continue
        count = len(samples.moments)
        places = sorted({0, count // 2, count - 1})
        table = _table("prompt", *(f"at {number(samples.moments[place])}" for place in places))
        for prompt, answers in zip(samples.prompts[:_EXERCISES], samples.answers, strict=False):
            told = (cut(answers[place] or "(nothing)", 200) for place in places)
            table.add_row(Text(cut(prompt, 200), "dim"), *map(Text, told))
        yield Group(Text.assemble((f"{step.name}: answers on the way", "bold")), table)


def _scores(found: Evaluation) -> RenderableType:
    verdict = {True: ("  passed", "green"), False: ("  failed", "red"), None: ("", "")}[found.passed]
    table = _table("model", *(words(metric) for metric in found.metrics))
    for column in table.columns[1:]:
        column.justify = "right"
    for model in found.models:
        table.add_row(Text(model.model + (" *" if model.best else "")), *(_score(score) for score in model.scores))
    failures = [Text(f"{model.model}: {'; '.join(model.failures)}", "red") for model in found.models if model.failures]
    best = [Text("* the best, by the report's own word", "dim")] if any(model.best for model in found.models) else []
    return Group(Text.assemble((found.step, "bold"), verdict), table, *best, *failures)


def _score(score: Score) -> Text:
    if score.value is None:
        return Text("none", "dim")
    told = Text(number(score.value), "bold" if score.best else "")
    return told.append(f" {change(score.change)}", _TURNS[score.turn]) if score.change else told


def _answers(sheet: Sheet) -> RenderableType:
    shown = sheet.exercises[:_EXERCISES]
    told = "; ".join(f"{count} {turn}" for turn, count in sheet.turns.items())
    lead = f"  {sheet.models[0]} to {sheet.models[-1]}: {told}" if told else ""
    some = (f" ({len(shown)} of {number(sheet.rows)} rows)", "dim")
    head = Text.assemble((f"{sheet.step}: answers", "bold"), some, lead)
    return Group(head, *(Padding(_exercise(exercise), (1, 0, 0, 2), expand=False) for exercise in shown))


def _exercise(exercise: Exercise) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("prompt", Text(cut(exercise.prompt[-1][1] if exercise.prompt else "", 400)))
    if exercise.expected is not None:
        table.add_row("expected", Text(cut(exercise.expected, 400)))
    for answer in exercise.answers:
        table.add_row(Text(f"{', '.join(answer.models)}{' ✓' if answer.right else ''}"), _answer(answer))
    return table


def _answer(answer: Answer) -> Text:
    told = Text(style="green" if answer.right else "")
    for piece in answer.pieces:
        if piece.kind != "missing":
            told.append(piece.text, "yellow" if piece.kind == "extra" and not answer.right else "")
    told.truncate(400, overflow="ellipsis")
    return told if told.plain else Text("(nothing)", "dim")


def _left_out(steps: Sequence[LeftOut]) -> RenderableType:
    lines = []
    for step in steps:
        if step.count:
            part = f" ({share(step.share)})" if step.share is not None else ""
            why = "; ".join(f"{number(count)} {reason}" for reason, count in step.reasons.items())
            told = f"{step.step}: {number(step.count)} rows left out{part}: {why}"
            lines.append(Text(told, "bold red" if step.loud else ""))
    clean = [step.step for step in steps if not step.count]
    if clean:
        lines.append(Text(f"every row was used in {', '.join(clean)}", "dim"))
    return Group(*lines)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    return table


def _mark(status: str) -> str:
    return _MARKS.get(status, "-")


def _style(status: str) -> str:
    return _STYLES.get(status, "dim")
