"""What a step's result answered to the same prompts, at several moments of the work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tuneforge_registry import Registry

from .points import samples_location
from .texts import shown


@dataclass(frozen=True)
class Samples:
    """`answers[i][j]` is what was answered to `prompts[i]` when `moments[j]` parts of the work were done."""

    moments: Sequence[float]
    prompts: Sequence[str]
    answers: Sequence[Sequence[str | None]]


def samples_of(registry: Registry, run: str, step: str, digest: str | None = None) -> Samples | None:
    """What was sampled in a step of a run; of a step that was cached, in the run that made its result."""
    found = _read(registry, run, step)
    if found is None and digest is not None:
        made = (_read(registry, maker, name) for maker, name in registry.made_by(digest))
        found = next((samples for samples in made if samples), None)
    return found


def _read(registry: Registry, run: str, step: str) -> Samples | None:
    try:
        text = samples_location(registry.home / "runs" / run, step).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    told: dict[tuple[str, float], str] = {}
    for line in text.splitlines()[1:]:
        try:
            entry = json.loads(line)
            told[shown(entry["prompt"]), float(entry["done"])] = shown(entry["answer"])
        except (ValueError, TypeError, KeyError):  # cut short, where the run was killed
            continue
    prompts = list(dict.fromkeys(prompt for prompt, _ in told))
    moments = sorted({moment for _, moment in told})
    if not told:
        return None
    return Samples(moments, prompts, [[told.get((prompt, moment)) for moment in moments] for prompt in prompts])
