"""What a running method holds in its hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifacts import Artifact

if TYPE_CHECKING:
    from .launch.options import Launch


@dataclass
class Step:
    """One step while it runs.

    `out` is the empty folder to write the result into. `scratch` is a folder that survives a crash: a step that is
    carried out again finds what it left there. `seed` is the recipe's; `threads` is how many the step may use.
    `lineage` tells how every artifact before this step was made; only methods with `traced = True` may read it.
    Of a step that is spread over processes, this is the one of `rank`, from 0 to `world_size` - 1, and `launch` says
    how it is spread. Only rank 0 is heard, what others write into `out` is thrown away, and `scratch` is one for all.
    """

    name: str
    out: Path
    scratch: Path
    seed: int
    threads: int
    send: Callable[[dict[str, Any]], None]
    lineage: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    rank: int = 0
    launch: Launch | None = None

    @property
    def world_size(self) -> int:
        """How many processes carry the step out."""
        return self.launch.world_size if self.launch else 1

    def log(self, text: str) -> None:
        """A line for whoever watches, and for the step's log."""
        self.send({"event": "log", "text": text})

    def warn(self, problem: str, fix: str = "", at: float | None = None) -> None:
        """What the person should know of though the step goes on; kept in the run record, beside how far it was.

        `at` is for what is told again after a crash: how far it was when it first was told.
        """
        self.send({"event": "warning", "problem": problem, "fix": fix, "done": at})

    def sample(self, done: float, prompt: str, answer: str) -> None:
        """What the result answers to a prompt when `done` parts of the work are done, for who watches it change."""
        self.send({"event": "sample", "done": done, "prompt": prompt, "answer": answer})

    def progress(self, done: float, total: float, **figures: float) -> None:
        """How far the work is, with figures of the moment (`loss=...`)."""
        self.send({"event": "progress", "done": done, "total": total, "figures": _plain(figures)})

    def metrics(self, **figures: Any) -> None:
        """Figures of the finished step, for the run record: numbers, texts, and flat dicts of them."""
        self.figures.update(_plain(figures))

    def sits_on(self, base: Artifact) -> None:
        """Declares what the result cannot be used without: an adapter's base model."""
        self.base = base.digest


def _plain(value: Any) -> Any:
    """As JSON can say it: a number of numpy or torch as Python's, and what is not finite as null."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
