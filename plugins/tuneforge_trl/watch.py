"""What is told of a training while it goes on, and when there is a checkpoint."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tuneforge import Step, StepError

from .options import Training
from .ranks import agreed, finish_checkpoint

_UNSAVED, _SAVING = 600, 0.05
"""Seconds after which there is a checkpoint before `save_every`, and the share of the time that these may take."""


class Watch(TrainerCallback):
    """Reports every optimisation step, stops at a loss that is no number, and marks checkpoints as finished."""

    def __init__(self, options: Training, step: Step) -> None:
        self._log_every, self._save_every = options.log_every, options.save_every
        self._step = step
        self._saved = time.monotonic()
        self._saving = 0.0  # seconds that the last checkpoint took

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        now = time.monotonic()
        long_ago = now - self._saved > max(_UNSAVED, self._saving / _SAVING)
        due = long_ago or state.global_step % self._save_every == 0
        control.should_save = agreed(due) and state.global_step < state.max_steps
        if control.should_save:
            self._saved = now
        return control

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise StepError(
                f"the loss is {logs['loss']} at step {state.global_step} of {state.max_steps}",
                f"Lower the learning rate (it is {args.learning_rate:g}), or lengthen the warm-up.",
            )
        figures = {name: logs[key] for name, key in _FIGURES.items() if key in logs}
        self._step.progress(state.global_step, state.max_steps, **figures)
        if state.global_step % self._log_every == 0 or state.global_step == state.max_steps:
            told = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
            self._step.log(f"step {state.global_step} of {state.max_steps}: {told}")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        finish_checkpoint(Path(args.output_dir or "") / f"checkpoint-{state.global_step}")
        self._saving = time.monotonic() - self._saved


_FIGURES = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "gradient_norm": "grad_norm",
    "reward_accuracy": "rewards/accuracies",
    "reward_margin": "rewards/margins",
}
