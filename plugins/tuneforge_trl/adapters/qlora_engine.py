"""The base of a QLoRA: loaded in 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from transformers import BitsAndBytesConfig, PreTrainedModel

from .engine import Making
from .process import Process
from .qlora import QLora


class OnRounded(Process):
    """Rounds the base while it is loaded; of its own weights, none is trained."""

    def __init__(self, options: QLora, making: Making) -> None:
        self._options, self._dtype, self._sharded = options, making.dtype, making.sharded

    def quantization(self) -> BitsAndBytesConfig:
        options = self._options
        if options.base == "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        named = options.compute_dtype
        dtype = self._dtype if named == "auto" else getattr(torch, named)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=options.base,
            bnb_4bit_use_double_quant=options.double_quant,
            bnb_4bit_compute_dtype=dtype,
            # FSDP cuts up weights of one type only: the packed bits are then stored as that of all others.
            bnb_4bit_quant_storage=dtype if self._sharded else None,
        )

    def ready(self, model: PreTrainedModel) -> None:
        # As the paper has it: norms are few, and sensitive. PEFT's own preparation would cast the embeddings too.
        for weight in model.parameters():
            weight.requires_grad = False
            if weight.ndim == 1 and weight.is_floating_point():
                weight.data = weight.data.to(torch.float32)

    def result(
        self, model: PeftModel, state: Mapping[str, torch.Tensor] | None
    ) -> tuple[PeftConfig, dict[str, torch.Tensor]]:
        config: Any = model.peft_config["default"]
        # Readers of PEFT pass over what they do not know here; a merge tells of it.
        config.auto_mapping = {"quantized_base": self._options.base}
        return config, get_peft_model_state_dict(
            model, state_dict=state, adapter_name="default", save_embedding_layers=False
        )
