"""The options of how a training is watched: its monitor, evaluations on the way, and what of them is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tuneforge import Config, Field, Finding
from tuneforge.kit.monitor.options import MonitorOptions, check_monitor


class Watching(Config):
    """How a training is watched while it goes on, and which of its checkpoints is kept."""

    evaluate_every: int | None = Field(
        None,
        ge=0,
        also=("eval_steps", "eval_every", "evals_per_epoch", "eval_strategy"),
        description="Steps between measurements of the held-out loss, or reward; 0: only at the end. Where it is not "
        "set, up to five in a run, as many as take about 5 % of the time.",
    )
    keep: Literal["best", "last"] | None = Field(
        None,
        also=("load_best_model_at_end", "save_total_limit"),
        description="Which weights are the result: those with the lowest held-out loss, or highest reward, or the "
        "last ones. Best where it is not set and that is measured on the way.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        also=("early_stopping_patience",),
        description="Ends the training after that many measurements of the held-out loss, or reward, without a new "
        "best one.",
    )
    monitor: MonitorOptions = Field(
        MonitorOptions(), keyed=False, description="What is done about troubles while it trains."
    )


class Sampling(Config):
    """The same few prompts, answered again and again while a training goes on."""

    samples: int | list[str] = Field(
        3,
        keyed=False,
        description="Prompts answered at each measurement, so that one can watch the answers change: as many held-out "
        "ones, or these; 0: none.",
    )
    sample_tokens: int = Field(64, ge=1, keyed=False, description="Longest such answer, in tokens.")


def check_watching(options: Watching) -> Iterator[Finding]:
    """Findings on the options of this file."""
    if options.evaluate_every == 0 and options.keep == "best":
        yield Finding(
            "keep: best needs measurements of the held-out loss on the way, and evaluate_every: 0 has none",
            "Leave evaluate_every out, or say keep: last.",
            field="keep",
        )
    if options.evaluate_every == 0 and options.patience is not None:
        yield Finding(
            "patience counts measurements of the held-out loss, and evaluate_every: 0 has none",
            "Leave one of them out.",
            field="patience",
        )
    if isinstance(options, Sampling) and isinstance(options.samples, int) and options.samples < 0:
        yield Finding("samples cannot be negative", "Say how many held-out prompts, or list prompts.", field="samples")
    yield from check_monitor(options.monitor)
