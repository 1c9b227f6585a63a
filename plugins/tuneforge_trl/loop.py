"""Carrying out a training, from a checkpoint on if there is one, and writing its result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PrinterCallback, Trainer

from tuneforge import Adapter, Model, Step
from tuneforge.kit.chats import IGNORED, terminator
from tuneforge.kit.models import full_model, load_tokenizer, save_adapter, save_model, stored_dtype, tokenizer_folder

from . import checkpoints
from .adapters.engine import Adapted
from .layers.parameters import count, tell
from .optimizers import muon
from .options import Training
from .spread.ranks import Spread, newest_checkpoint, whole_state
from .spread.sharding import Assured
from .watching.callback import Watch
from .watching.evaluation import Evaluation, HeldOutRows


class Quiet(Spread):
    """Takes from a TRL trainer what it does beside training: telemetry, a model card in every checkpoint, and an
    estimate of the operations of every batch, for which it counts the parameters anew each time. Counts tokens."""

    watch: Watch | None = None

    def get_batch_samples(self, *args: Any) -> Any:
        """The micro batches of a step, of which the one who watches is told the tokens."""
        batches, items = super().get_batch_samples(*args)  # type: ignore[misc]
        if self.watch is not None:
            # Not yet numbers: on a GPU that would wait for all that is under way there.
            self.watch.count(_sum(batches, "attention_mask", "input_ids"), _sum(batches, "labels", "completion_mask"))
        return batches, items

    def _send_telemetry(self) -> None:
        return

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        return


def _sum(batches: Sequence[Mapping[str, torch.Tensor]], mask: str, other: str) -> Any:
    """How many tokens a mask of the batches has, or the labels; all of another tensor where they have no mask."""
    counts: list[Any] = []
    for batch in batches:
        if mask in batch:
            counts.append((batch[mask] != (IGNORED if mask == "labels" else 0)).sum())
        elif other in batch:
            counts.append((batch[other] != 0).sum() if other.endswith("mask") else batch[other].numel())
    return sum(counts) if counts else None


def fit(trainer: Trainer, options: Training, step: Step, held_out: HeldOutRows | None = None) -> None:
    """Trains, from the newest whole checkpoint in `step.scratch` on if there is one, and measures the result."""
    own: Any = trainer.model
    for weight in own.parameters():
        # TRL casts an adapter on a quantized base to bfloat16, which is too coarse for the steps of a training.
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float32)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Assured(trainer, step))
    if options.optimizer == "muon":
        rate, decay = trainer.args.learning_rate, trainer.args.weight_decay
        trainer.optimizer = muon(trainer.model, learning_rate=rate, weight_decay=decay)
    if step.rank:
        torch.manual_seed(step.seed + step.rank)  # what is dropped out of other rows is drawn anew
    checkpoint = newest_checkpoint(step.scratch / "checkpoints", step)
    if checkpoint is not None:
        step.log(f"resuming after step {checkpoints.steps(checkpoint)}")
    tell(own, step)
    evaluation = Evaluation(trainer, options, step, held_out, options.longest(own.config.to_dict()))
    watch = Watch(options, step, evaluation, checkpoint)
    trainer.add_callback(watch)
    if isinstance(trainer, Quiet):
        trainer.watch = watch
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    trainable, total = count(own)
    step.metrics(
        steps=trainer.state.global_step,
        train_loss=math.fsum(losses) / len(losses),
        trainable_parameters=trainable,
        total_parameters=total,
    )
    evaluation.settle(trainer.state.global_step)


def save(trainer: Trainer, model: Model | Adapter, step: Step, adapted: Adapted, stop: int | None = None) -> None:
    """Writes the result: an adapter where one was trained, else the whole model as the given one was stored.

    A whole model's answers are to end at the token `stop`, where none is given at the end of an assistant's turn.
    """
    state = whole_state(trainer)
    if step.rank:
        return
    trained: Any = trainer.model
    base = full_model(model)
    if isinstance(trained, PeftModel):
        given = adapted.process.result(trained, state)
        save_adapter(trained, tokenizer_folder(model), step.out, base, given, state)
        step.sits_on(base)
    else:
        if stop is None:
            stop = terminator(load_tokenizer(model))
        dtype, tokenizer = stored_dtype(model), tokenizer_folder(model)
        save_model(trained, tokenizer, step.out, dtype, like=base.path, terminator=stop, state=state)
