"""Rows that a step did not use, by reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LOUD = 0.1  # share of the rows from which on it should not be overlooked


@dataclass(frozen=True)
class LeftOut:
    """The rows a step left out, most frequent reason first; `total` is all there were, None where that is not told."""

    step: str
    reasons: Mapping[str, int]
    total: int | None

    @property
    def count(self) -> int:
        return sum(self.reasons.values())

    @property
    def share(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def loud(self) -> bool:
        return self.share is not None and self.share > _LOUD


def left_out(step: str, figures: Mapping[str, Any]) -> LeftOut | None:
    """What a step's figures tell in `left_out`, rows by reason; None if they do not tell.

    All rows are those that it `read`, or what it kept (`kept`, `rows` or `pairs`) and what it left out.
    """
    reasons = figures.get("left_out")
    if not isinstance(reasons, Mapping):
        return None
    counts = {str(reason): count for reason, count in reasons.items() if _is_count(count)}
    ordered = dict(sorted(counts.items(), key=lambda pair: -pair[1]))
    read, kept = figures.get("read"), figures.get("kept")
    if isinstance(kept, Mapping):
        kept = sum(count for count in kept.values() if _is_count(count))
    kept = next((count for count in (kept, figures.get("rows"), figures.get("pairs")) if _is_count(count)), None)
    total = read if _is_count(read) else None if kept is None else kept + sum(ordered.values())
    return LeftOut(step, ordered, total)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
