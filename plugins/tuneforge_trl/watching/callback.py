"""What is told of a training while it goes on, and when there is a checkpoint."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tuneforge import Step
from tuneforge.kit.monitor.moments import Moment, Settings
from tuneforge.kit.monitor.monitor import Guard

from .. import checkpoints
from ..options import Training
from ..spread.ranks import agreed, finish_checkpoint
from .evaluation import Evaluation

_UNSAVED, _SAVING = 600, 0.05
"""Seconds after which there is a checkpoint before `save_every`, and the share of the time that these may take."""


class Watch(TrainerCallback):
    """Reports every optimisation step, evaluates and samples on the way, and marks checkpoints as finished.

    Whatever the log history of a checkpoint tells is told anew by the run that goes on from there, so that its record
    is that of the whole training.
    """

    def __init__(self, options: Training, step: Step, evaluation: Evaluation, resumed: Path | None) -> None:
        self._options, self._step = options, step
        self._evaluation, self._resumed = evaluation, resumed
        self._guard: Guard | None = None
        self._saved = time.monotonic()
        self._saving = 0.0  # seconds that the last checkpoint took
        self._since = time.monotonic()  # the last step ended, or what came between it and the next one
        self._counted: tuple[Any, Any] = (0, None)  # tokens of the step, and those under loss

    def count(self, tokens: Any, under_loss: Any) -> None:
        """Is told, before each step, how many tokens it has, and how many of them are under loss if that is known."""
        self._counted = tokens, under_loss

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        settings = Settings(state.max_steps, args.learning_rate, args.max_grad_norm, self._options.loss_falls)
        self._guard = Guard(self._options.monitor, settings, self._step)
        self._evaluation.resume(state.log_history, self._resumed)
        for entry in state.log_history:
            self._tell_samples(entry["step"], entry.get("samples", ()))
            if "loss" in entry:
                self._guard.recall(_moment(entry))
        if self._resumed is None:
            self._sample(state)
        self._since = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        now = time.monotonic()
        long_ago = now - self._saved > max(_UNSAVED, self._saving / _SAVING)
        due = long_ago or state.global_step % self._options.save_every == 0
        control.should_save = agreed(due) and state.global_step < state.max_steps
        return control

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> TrainerControl:
        if "loss" not in logs:
            return control
        entry = state.log_history[-1]  # what is added to it is in the next checkpoint
        seconds = time.monotonic() - self._since
        tokens, under_loss = (None if count is None else int(count) for count in self._counted)
        # Rank 0's alone: another's rows may all be blank ones.
        if tokens and under_loss is not None and not self._step.rank:
            entry["under_loss"] = under_loss / tokens
        figures = figures_of(logs)
        speed = args.world_size * (tokens or 0) / seconds  # as many on every rank, about
        if math.isfinite(logs["loss"]) and self._evaluation.due(state.global_step):
            found = self._evaluation.measure(state.global_step)
            figures |= found
            entry |= found
        self._step.progress(state.global_step, state.max_steps, **figures, tokens_per_second=speed)
        if state.global_step % self._options.log_every == 0 or state.global_step == state.max_steps:
            told = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
            self._step.log(f"step {state.global_step} of {state.max_steps}: {told}")
        # The first step also sets up what the others use.
        timed = state.global_step > 1 + (checkpoints.steps(self._resumed) if self._resumed else 0)
        assert self._guard is not None
        self._guard.see(_moment(entry, speed if timed else None, seconds))
        self._sample(state)
        if self._evaluation.exhausted and state.global_step < state.max_steps:
            waited = self._options.patience
            self._step.log(f"no {self._evaluation.hope} for {waited} measurements: the training ends here")
            control.should_training_stop = True
            control.should_save = False  # what goes on from there would not stop there
        if control.should_save:
            self._saved = time.monotonic()
        self._since = time.monotonic()
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        checkpoint = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        self._evaluation.put_into(checkpoint)
        finish_checkpoint(checkpoint)
        self._since = time.monotonic()
        self._saving = self._since - self._saved

    def _sample(self, state: TrainerState) -> None:
        found = self._evaluation.sample(state.global_step)
        if not found:
            return
        self._tell_samples(state.global_step, found)
        if state.global_step:
            state.log_history[-1]["samples"] = found  # type: ignore[assignment]
        else:
            state.log_history.append({"step": 0, "samples": found})  # type: ignore[dict-item]

    def _tell_samples(self, at: float, found: Any) -> None:
        for prompt, answer in found:
            self._step.sample(at, prompt, answer)


def _moment(entry: Mapping[str, Any], speed: float | None = None, seconds: float = 0.0) -> Moment:
    return Moment(
        entry["step"],
        entry["loss"],
        entry.get("learning_rate"),
        entry.get("grad_norm"),
        entry.get("eval_loss"),
        entry.get("under_loss"),
        speed,
        seconds,
        figures_of(entry) | {name: value for name, value in entry.items() if name.startswith("eval_")},
    )


FIGURES = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "gradient_norm": "grad_norm",
    "reward_accuracy": "rewards/accuracies",
    "reward_margin": "rewards/margins",
    "chosen_logps": "logps/chosen",
    "rejected_logps": "logps/rejected",
    "reward": "reward",
    "kl": "kl",
    "kl_answer": "kl_answer",
    "entropy": "entropy",
    "answer_tokens": "completions/mean_length",
    "no_signal": "frac_reward_zero_std",
}
"""What is told of each step, and what the trainers call it."""

_REWARD = re.compile(r"rewards/(\w+)/mean")
"""What they call the mean of each reward, by its name."""


def figures_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """What is told of a step, by what its trainer has logged: `FIGURES`, and `reward_<name>` of each reward."""
    named = {name: logs[key] for name, key in FIGURES.items() if key in logs}
    rewards = {f"reward_{found[1]}": value for key, value in logs.items() if (found := _REWARD.fullmatch(key))}
    return named | rewards
