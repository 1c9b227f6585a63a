"""What methods share that bring artifacts out of the house: reports stop them, unless told otherwise by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tuneforge import Config, Field, Finding

if TYPE_CHECKING:
    from tuneforge.plan import PlannedStep


class Judged(Config):
    """A publication that failed reports stop. Hand `despite` to `verdicts.refuse_failed`."""

    despite: tuple[str, ...] = Field(
        (),
        description="Reports that do not stop it though they failed, by their steps: [merged.parity]. It is told.",
    )


def unknown(steps: Sequence[PlannedStep]) -> Iterator[Finding]:
    """Names under `despite` that are none of a publication's reports: a misspelt one would surprise at the very end."""
    for step in steps:
        if isinstance(step.method, Judged):
            for name in step.method.despite:
                reports = step.spec.inputs.get("reports", [])
                if name not in reports:
                    near = get_close_matches(name, reports, 1, 0.6)
                    there = f"There are: {', '.join(reports)}." if reports else "It has none."
                    fix = f"Did you mean {near[0]}?" if near else there
                    yield Finding(f"despite: {name} is no report of {step.name}", fix, place=step.place)
