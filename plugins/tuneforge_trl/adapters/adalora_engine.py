"""AdaLoRA's ranks: taken away after every step, kept in checkpoints, and written as a LoRA."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.adalora import AdaLoraLayer
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .adalora import AdaLora
from .engine import Making
from .lora_engine import targets
from .process import Process

_IMPORTANCE, _PATTERN = "adalora.safetensors", "adalora.json"
_MEANS = ("exp_avg_ipt", "exp_avg_unc")
"""What PEFT's allocator remembers of each weight's importance and of how uncertain that is."""


def adalora_config(options: AdaLora, making: Making) -> AdaLoraConfig:
    """An AdaLoRA whose schedule fits the number of steps."""
    steps = making.steps
    first, last = options.schedule(steps)
    return AdaLoraConfig(
        **making.common(),
        target_r=options.target_r,
        init_r=options.first_r,
        lora_alpha=options.scale,
        lora_dropout=options.dropout,
        tinit=first,
        tfinal=last,
        deltaT=options.interval,
        total_step=steps,
        orth_reg_weight=options.orthogonality,
        target_modules=targets(options, making),
    )


class Shrinking(Process):
    """Takes ranks away while it is trained; what is written is a LoRA of the ranks that are left."""

    def __init__(self, options: AdaLora) -> None:
        self._allocator = Allocator(options.orthogonality)

    def callbacks(self) -> list[TrainerCallback]:
        return [self._allocator]

    def result(
        self, model: PeftModel, state: Mapping[str, torch.Tensor] | None
    ) -> tuple[PeftConfig, dict[str, torch.Tensor]]:
        own: Any = model.peft_config["default"]
        tensors, ranks, alphas = {}, {}, {}
        for name, layer in _layers(model):
            values = layer.lora_E["default"].detach()
            # A rank that was taken away has a singular value of exactly zero.
            kept = values.flatten().nonzero().flatten()
            if not len(kept):
                continue
            inner = name.removeprefix("base_model.model.")
            ranks[inner] = len(kept)
            # PEFT scales an AdaLoRA by alpha / init_r, a LoRA by alpha / r.
            alphas[inner] = own.lora_alpha * len(kept) / own.init_r
            tensors[f"{name}.lora_A.weight"] = (layer.lora_A["default"].detach() * values)[kept]
            tensors[f"{name}.lora_B.weight"] = layer.lora_B["default"].detach()[:, kept]
        config = LoraConfig(
            task_type=own.task_type,
            r=own.target_r,
            lora_alpha=own.lora_alpha,
            lora_dropout=own.lora_dropout,
            target_modules=sorted(ranks),
            rank_pattern=ranks,
            alpha_pattern=alphas,
            modules_to_save=own.modules_to_save,
            fan_in_fan_out=own.fan_in_fan_out,
        )
        return config, tensors | _kept_whole(model)


def _kept_whole(model: PeftModel) -> dict[str, torch.Tensor]:
    """The layers besides the adapter that are trained and kept whole, such as a score."""
    state = get_peft_model_state_dict(model, adapter_name="default", save_embedding_layers=False)
    return {name: tensor for name, tensor in state.items() if ".lora_" not in name}


class Allocator(TrainerCallback):
    """Has PEFT give out the ranks after every step, which it leaves to the caller; remembers them in checkpoints."""

    def __init__(self, orthogonality: float) -> None:
        self._weight = orthogonality
        self._pattern: dict[str, list[bool]] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        self._tuner: Any = _unwrapped(model).base_model
        if state.global_step:
            self._load(Path(args.output_dir or "") / f"checkpoint-{state.global_step}")

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        # TRL computes the loss from log-probabilities, past the model's own, to which PEFT adds this penalty.
        if self._weight:
            with torch.enable_grad():
                torch.autograd.backward(self._weight * _skewness(self._tuner))

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        config = self._tuner.peft_config["default"]
        # With a pattern in its configuration PEFT would save fewer ranks than the optimizer has, and could not resume.
        config.rank_pattern = self._pattern
        self._tuner.update_and_allocate(state.global_step + 1)
        self._pattern, config.rank_pattern = config.rank_pattern, None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        allocator = self._tuner.rankallocator
        tensors = {
            f"{mean}/{name}": tensor.contiguous()
            for mean in _MEANS
            for name, tensor in getattr(allocator, mean).items()
        }
        save_file(tensors, folder / _IMPORTANCE)
        (folder / _PATTERN).write_text(json.dumps(self._pattern), encoding="utf-8")

    def _load(self, folder: Path) -> None:
        allocator = self._tuner.rankallocator
        self._pattern = json.loads((folder / _PATTERN).read_text(encoding="utf-8"))
        device = next(self._tuner.parameters()).device
        for name, tensor in load_file(folder / _IMPORTANCE, device=str(device)).items():
            mean, _, weight = name.partition("/")
            getattr(allocator, mean)[weight] = tensor
            # It makes its means where there is no importance yet, and computes this anew with every step.
            allocator.ipt[weight] = torch.zeros_like(tensor)


def _unwrapped(model: Any) -> PeftModel:
    found = model if isinstance(model, PeftModel) else model.module
    assert isinstance(found, PeftModel)
    return found


def _skewness(tuner: Any) -> torch.Tensor:
    """How far the singular vectors are from orthogonal: the mean of ||P^T P - I|| and ||Q Q^T - I|| over the layers."""
    found = []
    for _, layer in _layers(tuner):
        right, left = layer.lora_A["default"], layer.lora_B["default"]
        for product in (right @ right.T, left.T @ left):
            found.append(torch.linalg.matrix_norm(product - torch.eye(len(product), device=product.device)))
    return torch.stack(found).mean()


def _layers(model: Any) -> list[tuple[str, Any]]:
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, AdaLoraLayer)]
