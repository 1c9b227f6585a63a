"""What every training of this plugin shares: the Trainer's settings, its progress, its checkpoints, its result."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars
from peft import LoraConfig, PeftModel
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tuneforge import Adapter, Model, Step, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.chats import terminator
from tuneforge.kit.models import (
    device,
    full_model,
    load_model,
    load_tokenizer,
    save_adapter,
    save_model,
    stored_dtype,
    tokenizer_folder,
)

from . import checkpoints
from .optimizers import muon
from .options import Lora, Training

_TOKENS_AT_ONCE = (2048, 16384)
"""About as many tokens as a CPU, and as a GPU, is best given at once: more only waits for memory, or is padding."""

_UNSAVED, _SAVING = 600, 0.05
"""Seconds after which there is a checkpoint before `save_every`, and the share of the time that these may take."""

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def compute_dtype() -> torch.dtype:
    """bfloat16 where the hardware computes in it, else float32."""
    supported = device().type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if supported else torch.float32


def prepare(step: Step) -> None:
    """Settles what a training's numbers depend on besides its options."""
    # One process trains on one GPU: TRL refuses to be shown several.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    disable_progress_bars()
    torch.set_num_threads(step.threads)
    if device().type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def padding_tokenizer(model: Model | Adapter) -> PreTrainedTokenizerBase:
    """The tokenizer, with a token to pad by: its end-of-text token where it has no other."""
    tokenizer = load_tokenizer(model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise StepError(
            "the tokenizer has neither a padding nor an end-of-text token",
            "Name one as pad_token in the model's tokenizer_config.json.",
        )
    return tokenizer


def load_for_training(model: Model | Adapter, options: Training) -> PreTrainedModel | PeftModel:
    """The model to be trained. Weights that change are float32: steps of training are too small for bfloat16."""
    whole = options.adapter is None and isinstance(model, Model)
    loaded: Any = load_model(model, dtype=torch.float32 if whole else compute_dtype(), trainable=True)
    # Trainers change it and then cannot save it in a checkpoint; the result gets the original's.
    loaded.generation_config = GenerationConfig()
    return loaded  # type: ignore[no-any-return]


def longest_row(model: Model | Adapter, options: Training) -> int:
    """The longest row in tokens: as set, else by the model's context."""
    return options.longest(read_json(full_model(model).path / "config.json"))


def lora_config(adapter: Lora | None) -> LoraConfig | None:
    """PEFT's settings for the `adapter:` block; None where there is none."""
    if adapter is None:
        return None
    auto = adapter.target_modules == "auto"
    return LoraConfig(
        task_type="CAUSAL_LM",
        peft_type=adapter.type.upper(),
        r=adapter.r,
        lora_alpha=adapter.scale,
        lora_dropout=adapter.dropout,
        target_modules="all-linear" if auto else list(adapter.target_modules),
    )


def arguments(options: Training, step: Step, *, lengths: Sequence[int], learning_rate: float) -> dict[str, Any]:
    """The Trainer's settings, with those on purpose whose defaults would surprise; `lengths` are those of the rows."""
    kind = device().type
    steps = options.steps or math.ceil(options.epochs * math.ceil(len(lengths) / options.batch_size))
    micro = options.micro(max(1, _TOKENS_AT_ONCE[kind != "cpu"] // max(lengths)))
    checkpointing = options.gradient_checkpointing
    return {
        "output_dir": str(step.scratch / "checkpoints"),
        "seed": step.seed,
        "max_steps": steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": options.batch_size // micro,
        # One at a time, so that what is measured does not depend on padding or on how rows are batched.
        "per_device_eval_batch_size": 1,
        "learning_rate": learning_rate,
        "lr_scheduler_type": _SCHEDULES[options.schedule],
        # Rounded down: the first step of a warm-up has a learning rate of zero, which a short training cannot spare.
        "warmup_steps": int(options.warmup * steps),
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "bf16": compute_dtype() is torch.bfloat16,
        "use_cpu": kind == "cpu",
        "gradient_checkpointing": kind != "cpu" if checkpointing is None else checkpointing,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        # Checkpoints are asked for, and old ones removed, by the callback below.
        "save_strategy": "no",
        "label_names": ["labels"],
        "dataloader_pin_memory": kind == "cuda",
        "disable_tqdm": True,
        "report_to": "none",
    }


class Quiet:
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
    if options.optimizer == "muon":
        rate, decay = trainer.args.learning_rate, trainer.args.weight_decay
        trainer.optimizer = muon(trainer.model, learning_rate=rate, weight_decay=decay)
    checkpoint = checkpoints.newest(step.scratch / "checkpoints", step.log)
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
        trainable_parameters=sum(weight.numel() for weight in parameters if weight.requires_grad),
        total_parameters=sum(weight.numel() for weight in parameters),
    )


def save(trainer: Trainer, model: Model | Adapter, step: Step) -> None:
    """Writes the result: an adapter where one was trained, else the whole model as the given one was stored."""
    trained: Any = trainer.model
    base = full_model(model)
    if isinstance(trained, PeftModel):
        save_adapter(trained, tokenizer_folder(model), step.out, base)
        step.sits_on(base)
    else:
        stop = terminator(load_tokenizer(model))
        save_model(trained, tokenizer_folder(model), step.out, stored_dtype(model), like=base.path, terminator=stop)


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
        control.should_save = due and state.global_step < state.max_steps
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
        checkpoints.finish(Path(args.output_dir or "") / f"checkpoint-{state.global_step}")
        self._saving = time.monotonic() - self._saved


_FIGURES = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "gradient_norm": "grad_norm",
    "reward_accuracy": "rewards/accuracies",
    "reward_margin": "rewards/margins",
}
