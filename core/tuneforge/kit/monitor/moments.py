"""What a monitor sees of a training, and what those who watch for one trouble each have in common."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Protocol

from .options import TroubleName


@dataclass(frozen=True)
class Moment:
    """The figures after step `step`; None for what was not measured.

    `under_loss` is the share of the step's tokens that have loss; `seconds` is how long the step took, and
    `tokens_per_second` how many tokens it learnt from in each. `figures` has what a method measures besides: rewards,
    margins, and what was measured of the held-out rows, as `eval_...`.
    """

    step: int
    loss: float
    learning_rate: float | None = None
    gradient_norm: float | None = None
    eval_loss: float | None = None
    under_loss: float | None = None
    tokens_per_second: float | None = None
    seconds: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What the figures are judged against: steps in all, the highest learning rate, the norm that gradients are
    clipped to, and whether a lower loss is a better one: that of what learns from answers of its own is not."""

    steps: int
    learning_rate: float
    max_grad_norm: float
    loss_falls: bool = True


@dataclass(frozen=True)
class Alarm:
    """A trouble that was seen: what is wrong, and what mends it."""

    trouble: TroubleName
    problem: str
    fix: str


class Watcher(Protocol):
    """Sees every step of a training, in their order."""

    name: TroubleName

    def see(self, moment: Moment) -> tuple[str, str] | None:
        """Problem and fix at the moment at which an episode of the trouble begins, else None."""
        ...


def drop(losses: Sequence[float], count: int) -> tuple[float, float]:
    """How much lower the later half is than the first `count` losses, and the standard error of that."""
    first, later = losses[:count], losses[max(count, len(losses) // 2) :]
    error = 1.2533 * noise(losses) * math.sqrt(1 / len(first) + 1 / len(later))  # of medians of a normal distribution
    return median(first) - median(later), error


def noise(values: Sequence[float]) -> float:
    """A standard deviation, from the distances of neighbours: the course of a curve is no noise."""
    return 1.4826 / math.sqrt(2) * median(abs(after - before) for before, after in pairwise(values))


def deviation(values: Sequence[float] | deque[float]) -> float:
    """A standard deviation, from the median of the distances to the median."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
