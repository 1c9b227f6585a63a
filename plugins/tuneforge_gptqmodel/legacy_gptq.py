"""GPTQ by auto-gptq 0.7.1."""

from __future__ import annotations

from pathlib import Path

import torch

from tuneforge import Step

from .calibration import Rows
from .gptq import Gptq
from .legacy import full, older, quantized, tokenizer

__all__ = ["full", "quantize", "quantized", "tokenizer"]


def quantize(options: Gptq, folder: Path, dtype: torch.dtype, rows: Rows, out: Path, step: Step) -> None:
    """See `engine.Library`."""
    from auto_gptq import AutoGPTQForCausalLM, BaseQuantizeConfig

    config = BaseQuantizeConfig(
        bits=options.bits,
        group_size=options.group_size,
        damp_percent=options.damping,
        desc_act=options.act_order,
        sym=options.symmetric,
    )
    loaded = AutoGPTQForCausalLM.from_pretrained(str(older(folder, step.scratch)), config, torch_dtype=dtype)
    given = [{"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()} for ids in rows]
    loaded.quantize(given, batch_size=1)
    loaded.save_quantized(str(out), use_safetensors=True)
    (written,) = out.glob("*.safetensors")
    written.rename(out / "model.safetensors")
