"""What became of the repeats of a run's steps, side by side: a row for each, with the values that set it apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Literal

from ..stages import Align, Train
from ..sweeps.axes import as_written
from ..sweeps.repeats import word_of
from .figures import is_number, words
from .scores import Evaluation
from .texts import as_text

if TYPE_CHECKING:
    from .gather import StepReport

_FITTED = (Train.stage, Align.stage)
_LOSSES = ("eval_loss", "train_loss", "loss")
_MOST = 9  # columns of figures

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Row:
    """One place in a sweep: the values that are its own, the steps that stand there, and the status of the last."""

    each: Mapping[str, Any]
    steps: tuple[str, ...]
    status: str

    def told(self, key: str) -> str:
        """A value as it is shown; nothing where the place sets no such option."""
        if key not in self.each:
            return ""
        value = self.each[key]
        return word_of(value) if is_number(value) else as_text(value)


@dataclass(frozen=True)
class Figure:
    """A column: a value a row, None where there is none. `better` is empty where neither direction is."""

    name: str
    values: tuple[float | None, ...]
    better: Better

    @property
    def best(self) -> float | None:
        """The best value, where some are better than others."""
        there = {value for value in self.values if value is not None}
        if not self.better or len(there) < 2:
            return None
        return max(there) if self.better == "higher" else min(there)


@dataclass(frozen=True)
class Line:
    """Rows to be joined in a plot, by their places, from the least to the greatest value of what goes across."""

    label: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Sweep:
    """Steps that were repeated for the same values of `keys`."""

    steps: tuple[str, ...]
    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    figures: tuple[Figure, ...]

    @property
    def plotted(self) -> list[Figure]:
        """The figures of which it is known what is better, where there are such, and two values or more."""
        several = [figure for figure in self.figures if sum(value is not None for value in figure.values) > 1]
        return [figure for figure in several if figure.better] or several

    @property
    def across(self) -> str:
        """What goes across in a plot: of the options whose values are numbers the one with most, or the first."""
        numeric = [key for key in self.keys if all(is_number(row.each.get(key)) for row in self.rows)]
        return max(numeric, key=lambda key: len({row.each[key] for row in self.rows}), default=self.keys[0])

    @property
    def logarithmic(self) -> bool:
        """Whether what goes across grows by factors (4, 16, 64) rather than by steps (1, 2, 3)."""
        values = sorted({float(row.each[self.across]) for row in self.rows}) if self.ordered else []
        if len(values) < 2 or values[0] <= 0:
            return False
        gaps = [after - before for before, after in pairwise(values)]
        factors = [math.log(after / before) for before, after in pairwise(values)]
        return values[-1] >= 10 * values[0] if len(values) == 2 else max(factors) / min(factors) < max(gaps) / min(gaps)

    @property
    def ordered(self) -> bool:
        """Whether what goes across are numbers."""
        return all(is_number(row.each.get(self.across)) for row in self.rows)

    @property
    def lines(self) -> list[Line]:
        """A line for every value of the other options."""
        others = [key for key in self.keys if key != self.across]
        found: dict[str, list[int]] = {}
        for place, row in enumerate(self.rows):
            label = ", ".join(f"{words(key)} {row.told(key)}" for key in others if key in row.each)
            found.setdefault(label, []).append(place)
        if self.ordered:
            for places in found.values():
                places.sort(key=lambda place: self.rows[place].each[self.across])
        return [Line(label, tuple(places)) for label, places in found.items()]


def sweeps(steps: Sequence[StepReport], evaluations: Sequence[Evaluation]) -> Iterator[Sweep]:
    """The sweeps of a run that have figures. Steps that were repeated for the same values make one, with the scores of
    their results."""
    families: dict[str, dict[str, StepReport]] = {}
    for step in steps:
        if step.of:
            families.setdefault(step.of, {})[as_written(step.each)] = step
    by_places = sorted(families, key=lambda name: sorted(families[name]))  # groupby needs neighbours
    groups = [list(names) for _, names in groupby(by_places, key=lambda name: sorted(families[name]))]
    order = list(families)
    for names in sorted((sorted(group, key=order.index) for group in groups), key=lambda group: order.index(group[0])):
        sweep = _sweep({name: families[name] for name in names}, {step.name: step for step in steps}, evaluations)
        if sweep.figures:
            yield sweep


def _sweep(
    families: Mapping[str, Mapping[str, StepReport]],
    steps: Mapping[str, StepReport],
    evaluations: Sequence[Evaluation],
) -> Sweep:
    first = next(iter(families.values()))
    rows = []
    for place, step in first.items():
        there = [family[place] for family in families.values()]
        worst = next((one.status for one in there if one.status not in ("done", "cached")), there[-1].status)
        rows.append(Row(step.each, tuple(one.name for one in there), worst))
    keys = tuple(dict.fromkeys(key for row in rows for key in row.each))
    figures = [*_losses_and_counts(families, rows, steps), *_scored(families, rows, steps, evaluations)]
    figures.sort(key=lambda figure: not figure.better)  # what tells which one to take comes first
    return Sweep(tuple(families), keys, tuple(rows), tuple(figures[:_MOST]))


def _losses_and_counts(
    families: Mapping[str, Mapping[str, StepReport]], rows: Sequence[Row], steps: Mapping[str, StepReport]
) -> Iterator[Figure]:
    """The figures that steps noted: losses, and whatever differs. Where models were fitted, of those steps alone."""
    stages = {name: next(iter(family.values())).stage for name, family in families.items()}
    fitted = [name for name, stage in stages.items() if stage in _FITTED] or list(families)
    for family in fitted:
        there = [steps[row.steps[list(families).index(family)]].metrics for row in rows]
        names = dict.fromkeys(name for metrics in there for name, value in metrics.items() if is_number(value))
        for name in sorted(names, key=lambda name: name != "eval_loss"):
            values = tuple(_figure(metrics.get(name)) for metrics in there)
            loss = name in _LOSSES
            if loss or len(set(values)) > 1:
                said = words(name) if len(fitted) == 1 else f"{family}: {words(name)}"
                yield Figure(said, values, "lower" if loss else "")


def _scored(
    families: Mapping[str, Mapping[str, StepReport]],
    rows: Sequence[Row],
    steps: Mapping[str, StepReport],
    evaluations: Sequence[Evaluation],
) -> Iterator[Figure]:
    """What reports say of the results. A report that is one repeat's own counts for the rows that it stands with."""
    columns: dict[tuple[str, str, str], tuple[list[float | None], Better]] = {}
    for found in evaluations:
        report = steps[found.step]
        apart = {key: value for key, value in report.each.items() if key not in rows[0].each}
        called = " ".join([report.of or report.name, *(f"{key}={as_text(value)}" for key, value in apart.items())])
        models = {model.digest: model for model in found.models}
        for place, row in enumerate(rows):
            if any(row.each.get(key, value) != value for key, value in report.each.items()):
                continue
            for family, name in zip(families, row.steps, strict=True):
                made = steps[name].made
                model = models.get(made.digest) if made else None
                for metric, score in zip(found.metrics, model.scores if model else (), strict=bool(model)):
                    better: Better = found.better.get(metric, "")
                    column, _ = columns.setdefault((called, family, metric), ([None] * len(rows), better))
                    column[place] = score.value
    subjects: dict[str, set[str]] = {}
    for called, family, _ in columns:
        subjects.setdefault(called, set()).add(family)
    for (called, family, metric), (values, better) in columns.items():
        of = f" of {family}" if len(subjects[called]) > 1 else ""
        yield Figure(f"{called}{of}: {words(metric)}", tuple(values), better)


def _figure(value: Any) -> float | None:
    return float(value) if is_number(value) else None
