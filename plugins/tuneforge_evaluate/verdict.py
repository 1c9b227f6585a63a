"""report.json: what was measured of each subject, and whether it is enough."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from tuneforge import Config, Step

from .subjects import Measured

Scores = dict[str, float | None]
"""Figures by their names; None for one that is not finite."""

_AT_MOST = frozenset({"perplexity"})


def write_report(
    scores: Mapping[str, Scores],
    require: Config,
    measured: Measured[Any],
    rank: Callable[[Scores], tuple[float, ...]],
    step: Step,
    **counts: int,
) -> None:
    """Writes report.json, with `counts` in it; `best` is the subject with the highest `rank`, the first of equals.

    `require` is a block of options that are named as the scores are.
    """
    names = dict.fromkeys(name for given in scores.values() for name in given)
    failures = {digest: lacks for digest, given in scores.items() if (lacks := shortfalls(given, require))}
    report = {
        "subjects": list(scores),
        "passed": not failures,
        "failures": failures,
        "scores": scores,
        "best": max(scores, key=lambda digest: rank(scores[digest])),
        "better": {name: "lower" if name in _AT_MOST else "higher" for name in names if name in _bars(require)},
        "split": measured.split,
        "rows": len(measured.rows),
        **counts,
        "left_out": dict(sorted(measured.left_out.items())),
    }
    (step.out / "report.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    step.metrics(rows=len(measured.rows), passed=not failures)
    step.metrics(**{name: {digest: given.get(name) for digest, given in scores.items()} for name in names})


def shortfalls(scores: Scores, require: Config) -> list[str]:
    """What of `require` is not reached."""
    found = []
    for name in _bars(require):
        bar = getattr(require, name)
        if bar is None:
            continue
        value = scores.get(name)
        word = "at most" if name in _AT_MOST else "at least"
        if value is None:
            found.append(f"{name} could not be measured, {word} {bar:g} is required")
        elif value > bar if name in _AT_MOST else value < bar:
            found.append(f"{name} is {value:g}, {word} {bar:g} is required")
    return found


def _bars(require: Config) -> list[str]:
    """The scores that can be required, which are those of which it is known what is better."""
    return list(type(require).model_fields)


def figure(value: float) -> float | None:
    """A score as reports tell it: six decimals, as the rest differs from one machine to the next."""
    return round(value, 6) if math.isfinite(value) else None
