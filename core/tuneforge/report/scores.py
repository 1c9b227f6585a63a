"""What a run's reports say of its models, side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from .figures import is_number

_DIGEST = re.compile(r"[0-9a-f]{64}")
_STRUCTURE = ("subjects", "scores", "failures", "passed", "best", "better", "left_out")


@dataclass(frozen=True)
class Score:
    """A model's figure for one metric, None where there is none; `change` is the difference to the first model's.

    `turn` says what the change means and `best` whether no other model has a better one, where the report tells what
    is better. `length` is the figure's share of the largest one, for a bar.
    """

    value: float | None
    change: float | None = None
    turn: Literal["better", "worse", ""] = ""
    best: bool = False
    length: float = 0.0


@dataclass(frozen=True)
class Scored:
    """A model's row: under the name of the step that made it. `best` is the report's own word."""

    model: str
    digest: str
    scores: tuple[Score, ...]
    best: bool
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's report. `passed` is None where it gives no verdict; `about` is what else it tells, as figures."""

    step: str
    metrics: tuple[str, ...]
    models: tuple[Scored, ...]
    passed: bool | None
    about: Mapping[str, Any]
    better: Mapping[str, Literal["higher", "lower"]] = field(default_factory=dict)


def evaluation(step: str, report: Mapping[str, Any], names: Mapping[str, str]) -> Evaluation | None:
    """A report as `Report` describes it, with the names that digests have in the run; None if it scores nothing.

    `better` of a report, if it has one, says of a metric whether `higher` or `lower` is better.
    """
    given = {
        str(digest): scores for digest, scores in _mapping(report.get("scores")).items() if isinstance(scores, Mapping)
    }
    metrics = tuple(dict.fromkeys(str(metric) for scores in given.values() for metric in scores))
    if not metrics:
        return None
    told = _mapping(report.get("better"))
    better = cast(
        'Mapping[str, Literal["higher", "lower"]]',
        {metric: told[metric] for metric in metrics if told.get(metric) in ("higher", "lower")},
    )
    columns = [_column([scores.get(metric) for scores in given.values()], better.get(metric)) for metric in metrics]
    failures = _mapping(report.get("failures"))
    models = tuple(
        Scored(
            names.get(digest, digest[:12]),
            digest,
            tuple(column[place] for column in columns),
            digest == report.get("best") and len(given) > 1,
            tuple(str(failure) for failure in failures.get(digest) or ()),
        )
        for place, digest in enumerate(given)
    )
    passed = report.get("passed")
    about = {
        name: value
        for name, value in report.items()
        if name not in _STRUCTURE and isinstance(value, (str, int, float)) and not isinstance(value, bool)
    }
    return Evaluation(step, metrics, models, passed if isinstance(passed, bool) else None, about, better)


def from_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a report that is no longer there: the figures by digest that its step noted in the record."""
    scores: dict[str, dict[str, Any]] = {}
    for metric, by_digest in metrics.items():
        if isinstance(by_digest, Mapping) and by_digest and all(_DIGEST.fullmatch(str(key)) for key in by_digest):
            for digest, value in by_digest.items():
                scores.setdefault(digest, {})[metric] = value
    return {"scores": scores, **{name: value for name, value in metrics.items() if not isinstance(value, Mapping)}}


def _column(given: list[Any], better: Any) -> list[Score]:
    values = [float(value) if is_number(value) else None for value in given]
    there = [value for value in values if value is not None]
    largest = max((abs(value) for value in there), default=0.0)
    sign = {"higher": 1, "lower": -1}.get(better, 0) if isinstance(better, str) else 0
    best = max((sign * value for value in there), default=0.0)
    tells = sign and len(set(there)) > 1
    column = []
    for place, value in enumerate(values):
        if value is None:
            column.append(Score(None))
            continue
        first = values[0]
        change = value - first if place and first is not None else None
        turn = sign * change if change is not None else 0
        column.append(
            Score(
                value,
                change,
                "better" if turn > 0 else "worse" if turn < 0 else "",
                bool(tells) and sign * value == best,
                abs(value) / largest if largest else 0.0,
            )
        )
    return column


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
