"""LoRA and its variants in PEFT's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import PreTrainedModel

from ..layers.targets_engine import target_modules
from .base import OnLayers
from .engine import Making
from .lora import LowRank
from .process import Process


def targets(options: OnLayers, making: Making) -> list[str]:
    """The layers that get an adapter, as PEFT takes them."""
    return target_modules(making.model, options.target_modules, making.warn)


def lora_config(options: LowRank, making: Making, **variant: Any) -> LoraConfig:
    """A LoRA, with what makes a variant of it."""
    return LoraConfig(
        **making.common(),
        r=options.r,
        lora_alpha=options.scale,
        lora_dropout=options.dropout,
        target_modules=targets(options, making),
        **variant,
    )


class FromPrincipal(Process):
    """PiSSA takes the principal part P of each weight W from it and trains an adapter A, which begins as P.

    What is written is A - P, for the model as it was: W - P + A = W + (A - P), a LoRA of twice the rank.
    """

    _initial: dict[str, torch.Tensor]

    def wrap(self, model: PreTrainedModel, config: PeftConfig) -> PeftModel:
        wrapped: Any = get_peft_model(model, config)
        # Another adapter of this configuration, such as the reference of DPO, must not take from the weights again.
        wrapped.peft_config["default"].init_lora_weights = True
        self._initial = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(wrapped).items()}
        return wrapped  # type: ignore[no-any-return]

    def result(
        self, model: PeftModel, state: Mapping[str, torch.Tensor] | None
    ) -> tuple[PeftConfig, dict[str, torch.Tensor]]:
        trained = get_peft_model_state_dict(
            model, state_dict=state, adapter_name="default", save_embedding_layers=False
        )
        tensors = {}
        for name, tensor in trained.items():
            initial = self._initial[name].to(tensor.device, tensor.dtype)
            if ".lora_A." in name:
                tensors[name] = torch.cat([tensor, initial], 0)
            elif ".lora_B." in name:
                tensors[name] = torch.cat([tensor, -initial], 1)
            else:
                tensors[name] = tensor
        own: Any = model.peft_config["default"]
        config = LoraConfig(**{**own.to_dict(), "r": 2 * own.r, "lora_alpha": 2 * own.lora_alpha})
        return config, tensors
