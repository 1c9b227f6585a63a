"""The Trainer's settings, and what else a training's numbers depend on besides its options."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import torch
from datasets import disable_progress_bars

from tuneforge import Adapter, Model, Step, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.adapters import needs_cache, peft_type
from tuneforge.kit.models import device

from .options import Training

_TOKENS_AT_ONCE = (1024, 16384)
"""About as many tokens as a CPU, and as a GPU, is best given at once: more only waits for memory, or is padding."""

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def compute_dtype(options: Training) -> torch.dtype:
    """As set, else bfloat16 where the hardware computes in it, else float32."""
    if options.precision == "fp16" and device().type != "cuda":
        raise StepError("fp16 needs a GPU, which scales the loss so that small gradients are not lost", "Set auto.")
    if options.precision != "auto":
        return _DTYPES[options.precision]
    supported = device().type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if supported else torch.float32


def settle(step: Step) -> None:
    """Settles what a training's numbers depend on besides its options."""
    if step.launch is None:
        # One process trains on one GPU: TRL refuses to be shown several.
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    elif torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    disable_progress_bars()
    torch.set_num_threads(step.threads)
    if device().type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def arguments(
    options: Training,
    step: Step,
    *,
    lengths: Sequence[int],
    learning_rate: float,
    model: Model | Adapter,
) -> dict[str, Any]:
    """The Trainer's settings, with those on purpose whose defaults would surprise.

    `lengths` are those of the rows; `model` is the one that is trained, which may be an adapter that is trained on.
    """
    kind = device().type
    steps = options.steps or math.ceil(options.epochs * math.ceil(len(lengths) / options.batch_size))
    micro = options.micro(max(1, _TOKENS_AT_ONCE[kind != "cpu"] // max(lengths)), step.world_size)
    checkpointing = options.gradient_checkpointing
    given = read_json(model.path / "adapter_config.json")
    able = options.adapter.checkpointable if options.adapter else not needs_cache(peft_type(given))
    return {
        "output_dir": str(step.scratch / "checkpoints"),
        "seed": step.seed,
        "max_steps": steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": options.batch_size // micro // step.world_size,
        # One at a time, so that what is measured does not depend on padding or on how rows are batched.
        "per_device_eval_batch_size": 1,
        "learning_rate": learning_rate,
        "lr_scheduler_type": _SCHEDULES[options.schedule],
        # Rounded down: the first step of a warm-up has a learning rate of zero, which a short training cannot spare.
        "warmup_steps": int(options.warmup * steps),
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "bf16": compute_dtype(options) is torch.bfloat16,
        "fp16": compute_dtype(options) is torch.float16,
        "use_cpu": kind == "cpu",
        "use_liger_kernel": options.liger,
        "gradient_checkpointing": kind != "cpu" and able if checkpointing is None else checkpointing,
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
