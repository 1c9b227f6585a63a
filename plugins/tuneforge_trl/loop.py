"""Carrying out a training, from a checkpoint on if there is one, and writing its result."""

from __future__ import annotations

import math
from typing import Any

import torch
from peft import PeftModel
from transformers import PrinterCallback, Trainer

from tuneforge import Adapter, Model, Step
from tuneforge.kit.chats import terminator
from tuneforge.kit.models import full_model, load_tokenizer, save_adapter, save_model, stored_dtype, tokenizer_folder

from . import checkpoints
from .optimizers import muon
from .options import Training
from .ranks import Spread, newest_checkpoint, size_of, whole_state
from .sharding import Assured
from .watch import Watch


class Quiet(Spread):
    """Takes from a TRL trainer what it does beside training: telemetry, a model card in every checkpoint, and an
    estimate of the operations of every batch, for which it counts the parameters anew each time."""

    def _send_telemetry(self) -> None:
        return

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        return


def fit(trainer: Trainer, options: Training, step: Step) -> None:
    """Trains, from the newest whole checkpoint in `step.scratch` on if there is one."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch(options, step))
    trainer.add_callback(Assured(trainer, step))
    if options.optimizer == "muon":
        rate, decay = trainer.args.learning_rate, trainer.args.weight_decay
        trainer.optimizer = muon(trainer.model, learning_rate=rate, weight_decay=decay)
    if step.rank:
        torch.manual_seed(step.seed + step.rank)  # what is dropped out of other rows is drawn anew
    checkpoint = newest_checkpoint(step.scratch / "checkpoints", step)
    if checkpoint is not None:
        step.log(f"resuming after step {checkpoints.steps(checkpoint)}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    trained: Any = trainer.model
    # The adapter that DPO refers to is a copy of the one that it trains.
    parameters = [weight for name, weight in trained.named_parameters() if ".ref." not in name]
    step.metrics(
        steps=trainer.state.global_step,
        train_loss=math.fsum(losses) / len(losses),
        trainable_parameters=sum(size_of(weight) for weight in parameters if weight.requires_grad),
        total_parameters=sum(size_of(weight) for weight in parameters),
    )


def save(trainer: Trainer, model: Model | Adapter, step: Step) -> None:
    """Writes the result: an adapter where one was trained, else the whole model as the given one was stored."""
    state = whole_state(trainer)
    if step.rank:
        return
    trained: Any = trainer.model
    base = full_model(model)
    if isinstance(trained, PeftModel):
        save_adapter(trained, tokenizer_folder(model), step.out, base, state)
        step.sits_on(base)
    else:
        stop = terminator(load_tokenizer(model))
        dtype, tokenizer = stored_dtype(model), tokenizer_folder(model)
        save_model(trained, tokenizer, step.out, dtype, like=base.path, terminator=stop, state=state)
