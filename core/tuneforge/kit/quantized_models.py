"""Loading quantized models with transformers, in an environment that has what `kit.quantized.needs_of` names."""

from __future__ import annotations

from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AwqConfig, CompressedTensorsConfig, GPTQConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar
from transformers.utils.quantization_config import AwqBackend

from tuneforge import QuantizedModel
from tuneforge.artifacts import read_json

from .quantized import packed_zero_points, quant_method


def load_quantized(
    artifact: QuantizedModel, *, dtype: torch.dtype | Literal["auto"], on: torch.device | None = None
) -> PreTrainedModel:
    """A quantized model ready for inference, on the given device, else on this process's CUDA device, else the CPU.

    What is not quantized, and what flows between layers, is in `dtype`; `auto` is as it is stored. On a CPU, GPTQ and
    AWQ run in plain torch: their quicker kernels there compute in bfloat16 whatever they are given.
    """
    disable_progress_bar()
    place = on or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = read_json(artifact.path / "config.json")
    how = _in_torch(config) if place.type == "cpu" else {}
    if packed_zero_points(config):
        how = {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    model: Any = AutoModelForCausalLM.from_pretrained(artifact.path, dtype=dtype, device_map={"": place}, **how)
    loaded: PreTrainedModel = model.eval()
    return loaded


def _in_torch(config: dict[str, Any]) -> dict[str, Any]:
    method = quant_method(config)
    if method not in ("gptq", "awq"):
        return {}
    # gptqmodel has its unpacking compiled, which takes a minute for each shape, and gains little without a GPU.
    torch.compiler.set_stance("force_eager")
    bits = config["quantization_config"].get("bits", 4)
    # Of these, transformers takes the backend alone; the rest is as the model's own configuration says.
    if method == "gptq":
        return {"quantization_config": GPTQConfig(bits=bits, backend="torch")}
    return {"quantization_config": AwqConfig(bits=bits, backend=AwqBackend.TORCH_AWQ)}
