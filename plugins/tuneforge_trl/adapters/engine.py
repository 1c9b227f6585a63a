"""A new adapter on a loaded model, for a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel, TrainerCallback

from .base import AdapterType
from .process import Process


@dataclass
class Making:
    """What an adapter is made for.

    `task` is PEFT's task type, CAUSAL_LM or SEQ_CLS; `modules_to_save` are layers that are trained and kept whole, such
    as the score of a reward model; `steps` is the number of optimisation steps; `tokenizer` the folder of the model's;
    `dtype` what is computed in; `sharded` is whether the model will be cut up among processes; `warn` is told of what
    the person should know. `model` is there once it is loaded.
    """

    task: str = "CAUSAL_LM"
    modules_to_save: list[str] | None = None
    steps: int = 1
    tokenizer: Path | None = None
    dtype: torch.dtype = torch.float32
    sharded: bool = False
    warn: Callable[[str], object] = print
    model: Any = None

    def common(self) -> dict[str, Any]:
        """What PEFT's configurations of adapters on layers share."""
        return {"task_type": self.task, "modules_to_save": self.modules_to_save}


@dataclass
class Adapted:
    """A model to be trained and, where the trainer is to put a new adapter on it, PEFT's configuration of that."""

    model: PreTrainedModel | PeftModel
    config: PeftConfig | None = None
    callbacks: list[TrainerCallback] = field(default_factory=list)
    process: Process = field(default_factory=Process)


def adapted(model: PreTrainedModel, options: AdapterType, making: Making, process: Process) -> Adapted:
    """Prepares a new adapter for a model that was loaded as `process` asks."""
    making.model = model
    process.ready(model)
    config = options.peft_config(making)
    wrapped = process.wrap(model, config)
    return Adapted(wrapped or model, None if wrapped else config, process.callbacks(), process)
