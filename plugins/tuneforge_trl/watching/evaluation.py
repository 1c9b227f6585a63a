"""Held-out rows while a training goes on: their loss or reward, what the model answers, and the best weights so far."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset
from safetensors.torch import load_file, save_file

from tuneforge import Step
from tuneforge.kit.chats import IGNORED

from ..options import Training
from ..rows.pairs import SIDES
from ..rows.tokens import Tokens, lengths
from ..spread.ranks import agreed
from . import samples
from .options import Sampling, Watching

_TIMES, _SHARE = 5, 0.05
"""How often held-out rows are measured where it is not said, and the share of the time that all of it may take."""

_LEAST = 4096
"""Tokens that a measurement is worth having with; fewer only where there are no more."""

_FORWARD = 1 / 3
"""What a forward pass costs of a step: the backward pass is twice as much."""

BEST = "best.safetensors"

Batch = Mapping[str, Any]


def tokens_under_loss(batch: Batch) -> int:
    """How many tokens a batch with labels has loss on; the first has no token before it to be told from."""
    return int((batch["labels"][..., 1:] != IGNORED).sum())


def means(found: Mapping[str, list[float]]) -> dict[str, float]:
    """The mean of each figure that there is one of."""
    return {name: math.fsum(values) / len(values) for name, values in found.items() if values}


@dataclass(frozen=True)
class HeldOutRows:
    """Held-out rows as tokens, and what is measured of them: the figure `eval_<goal>` tells which weights are best."""

    tokens: Tokens

    goal: ClassVar[str] = "loss"
    rises: ClassVar[bool] = False
    """Whether more of it is better."""
    cost: ClassVar[float] = _FORWARD
    """What a token of a measurement costs, as a share of what one costs that is learnt from."""

    def sizes(self, rows: Dataset) -> list[int]:
        """How many tokens each of the rows has, held out or learnt from."""
        return row_sizes(rows)

    def measure(self, trainer: Any, count: int) -> dict[str, float]:
        """The figures of the first `count` rows, as `eval_...`. No random number is drawn."""
        raise NotImplementedError

    def better(self, value: float, best: float) -> bool:
        """Whether a value of the goal is at least as good as the best one: of equal ones the later has learnt more."""
        return value >= best if self.rises else value <= best

    @property
    def best(self) -> str:
        """What the best value is called."""
        return f"{'highest' if self.rises else 'lowest'} held-out {self.goal}"

    @property
    def hope(self) -> str:
        """What a new best value is called."""
        return f"{'higher' if self.rises else 'lower'} held-out {self.goal}"


@dataclass(frozen=True)
class HeldOut(HeldOutRows):
    """Held-out rows by their loss, and how much a batch of them counts in its mean.

    `figures` names what a trainer measures besides the loss, ours first: `{"reward_margin": "rewards/margins"}`;
    `summary` makes its figures of what it found for each row. What there is no row for is not among them.
    """

    weigh: Callable[[Batch], int]
    figures: Mapping[str, str]
    summary: Callable[[Mapping[str, list[float]]], Mapping[str, float]] = means

    def measure(self, trainer: Any, count: int) -> dict[str, float]:
        return measure(trainer, self, count)


def measure(trainer: Any, held_out: HeldOut, count: int) -> dict[str, float]:
    """Mean loss over the first `count` held-out rows, and the other figures, as `eval_...`.

    Rows go one by one, so that what is measured does not depend on padding; and without a data loader, which would draw
    a random number.
    """
    rows = held_out.tokens.dataset
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    model = trainer.model_wrapped if sharded else trainer.model
    losses, weights = [], []
    training = model.training
    model.eval()
    others = trainer._metrics["eval"]
    others.clear()
    for index in range(count):
        batch = trainer.data_collator([rows[index]])
        weights.append(held_out.weigh(batch))
        loss, _, _ = trainer.prediction_step(model, batch, prediction_loss_only=True)
        losses.append(float(loss) * weights[-1])
    model.train(training)
    found = {"eval_loss": math.fsum(losses) / sum(weights)}
    told = held_out.summary(others)
    found |= {f"eval_{name}": told[key] for name, key in held_out.figures.items() if key in told}
    others.clear()
    return found


def row_sizes(rows: Dataset) -> list[int]:
    """How many tokens each row has: those of both answers where it is a pair."""
    sizes = [lengths(rows, name) for name in ("input_ids", *SIDES) if name in rows.column_names]
    return [sum(row) for row in zip(*sizes, strict=True)]


def plan(
    options: Watching, steps: int, learnt: float, held_out: Sequence[int], cost: float = _FORWARD
) -> tuple[int, int]:
    """Steps between measurements, and how many rows each has; (0, 0) where there are none.

    `learnt` is how many tokens the training learns from in all, `held_out` how many each held-out row has, `cost` what
    one of these costs as a share of one that is learnt from. By tokens and not by the clock: what is kept may depend on
    it, and must be the same on every machine.
    """
    if not held_out:
        return 0, 0
    budget = _SHARE / cost * learnt
    if options.evaluate_every is None:
        times = min(_TIMES, steps, int(budget / min(sum(held_out), _LEAST)))
        every = math.ceil(steps / times) if times > 1 else 0
    else:
        every = options.evaluate_every
    if not every:
        return 0, 0
    room = max(_LEAST, budget / math.ceil(steps / every))
    count = sum(before < room for before in accumulate(held_out[:-1], initial=0))
    return every, count


class Evaluation:
    """What is measured and sampled on the way, and the best weights so far.

    All that it must know again after a crash is in the trainer's log history, which is in every checkpoint; the best
    weights so far are a file in the step's scratch folder, of which each checkpoint gets a link.
    """

    def __init__(self, trainer: Any, options: Training, step: Step, held_out: HeldOutRows | None, longest: int) -> None:
        self._trainer, self._options, self._step, self._longest = trainer, options, step, longest
        self._goal = held_out.goal if held_out else "loss"
        self.held_out = held_out if held_out is not None and held_out.tokens.kept else None
        self._steps = trainer.args.max_steps
        self.every, self.rows = self._plan()
        self._prompts: list[samples.Prompt] = []
        self._sample_tokens, self._sample_every = 0, self.every
        if isinstance(options, Sampling):
            self._prompts, self._sample_tokens = samples.read_prompts(step), options.sample_tokens
            if not self.every and isinstance(options.samples, list):
                self._sample_every = options.evaluate_every or math.ceil(self._steps / _TIMES)
        # Weights that are cut up among processes cannot be set aside, nor answer without all of them.
        self._sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        self.keeps_best = bool(self.every) and options.keep != "last" and not self._sharded
        self._settled = options.adapter.settled(self._steps) if options.adapter else 0
        self._best: tuple[int, float] | None = None
        self._waited = 0  # measurements since the best
        self._latest: tuple[int, dict[str, float]] | None = None
        self._file = step.scratch / BEST
        for name, wanted in (("keep: best", options.keep == "best"), ("patience", options.patience is not None)):
            if wanted and not self.every:
                step.warn(
                    f"{name} has nothing to go by: the held-out {self._goal} is not measured on the way",
                    "Keep rows from training with holdout: on the format step, and set evaluate_every.",
                )

    def _plan(self) -> tuple[int, int]:
        if self.held_out is None:
            return 0, 0
        held_out = self.held_out
        trained, batch = held_out.sizes(self._trainer.train_dataset), self._options.batch_size
        learnt = self._steps * batch * sum(trained) / len(trained)
        rows = held_out.sizes(held_out.tokens.dataset)
        return plan(self._options, self._steps, learnt, rows, held_out.cost)

    def resume(self, history: Sequence[Mapping[str, Any]], checkpoint: Path | None) -> None:
        """Knows what it knew when `history` was written, and has the weights that were best then."""
        if self._step.rank == 0:
            self._file.unlink(missing_ok=True)
        for entry in history:
            if f"eval_{self._goal}" in entry:
                self._count(entry["step"], entry[f"eval_{self._goal}"])
        if self._step.rank == 0 and checkpoint is not None and (checkpoint / BEST).exists():
            _link(checkpoint / BEST, self._file)

    def due(self, step: int) -> bool:
        return bool(self.every) and (step % self.every == 0 or step == self._steps)

    def measure(self, step: int) -> dict[str, float]:
        """The figures of the held-out rows after a step; the weights are set aside if they are the best so far."""
        assert self.held_out is not None
        found = self._measured(self.rows)
        self._latest = step, found
        is_best = self._count(step, found[f"eval_{self._goal}"])
        if self.keeps_best and is_best and step < self._steps and self._step.rank == 0:
            beside = self._file.with_suffix(".new")
            save_file(_trained(self._trainer.model), beside)
            beside.replace(self._file)
        return found

    def _measured(self, rows: int) -> dict[str, float]:
        """What rank 0 finds. All ranks measure: TRL's trainers gather what they find, which takes every one."""
        assert self.held_out is not None
        found: dict[str, float] = agreed(self.held_out.measure(self._trainer, rows))
        return found

    def _count(self, step: int, value: float) -> bool:
        assert self.held_out is not None
        if step < self._settled:  # what there is could not be the result
            return False
        is_best = self._best is None or self.held_out.better(value, self._best[1])
        if is_best:
            self._best = step, value
        self._waited = 0 if is_best else self._waited + 1
        return is_best

    @property
    def exhausted(self) -> bool:
        """Whether `patience` is at its end."""
        return self._options.patience is not None and self._waited >= self._options.patience

    @property
    def hope(self) -> str:
        """What `patience` waits for."""
        return self.held_out.hope if self.held_out else ""

    def sample(self, step: int) -> list[tuple[str, str]]:
        """Prompts and their answers after a step, if it is one of those at which there are any."""
        every = self._sample_every
        if self._step.rank or self._sharded:
            return []
        if not every or not self._prompts or (step % every and step != self._steps):
            return []
        tokenizer = self._trainer.processing_class
        return samples.answers(self._trainer.model, tokenizer, self._prompts, self._sample_tokens, self._longest)

    def put_into(self, checkpoint: Path) -> None:
        """Gives a checkpoint the best weights so far."""
        if self._step.rank == 0 and self._file.exists():
            _link(self._file, checkpoint / BEST)

    def settle(self, step: int) -> None:
        """Takes the best weights for the result, and measures them, after the last step."""
        kept = step
        if self.keeps_best and self._best is not None and self._best[0] < step:
            kept, value = self._best
            agreed(None)  # rank 0 has written them
            stored = load_file(self._file)
            for name, weight in _trained(self._trainer.model).items():
                weight.copy_(stored[name])
            assert self.held_out is not None
            self._step.log(f"kept: step {kept} of {self._steps}, with the {self.held_out.best} ({value:.4g})")
        if self.every:
            self._step.metrics(kept_step=kept)
        if self.held_out is not None:
            rows = len(self.held_out.tokens.dataset)
            known = self._latest is not None and self._latest[0] == kept and self.rows == rows
            found = self._latest[1] if known and self._latest else self._measured(rows)
            self._step.metrics(**found)


def _trained(model: Any) -> dict[str, Any]:
    """The weights that change."""
    return {name: weight.data for name, weight in model.named_parameters() if weight.requires_grad}


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
