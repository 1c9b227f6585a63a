"""What each scheme stores and computes, as compressed-tensors writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Scheme:
    """The numbers of weights and activations, None for those that stay as they are, and the form they are stored in."""

    integers: bool
    form: str
    weights: Numbers
    activations: Numbers | None
    hardware: str = ""
    """What it needs where it is served."""


_INT8 = {"num_bits": 8, "type": "int", "symmetric": True}
_FP8 = {"num_bits": 8, "type": "float", "symmetric": True}
_ON_ADA = (
    "FP8 is computed on GPUs of compute capability 8.9 (Ada, Hopper) and newer; older ones only store weights in it"
)

SCHEMES: Mapping[str, Scheme] = {
    "w4a16": Scheme(True, "pack-quantized", {"num_bits": 4, "type": "int", "dynamic": False}, None),
    "w8a8": Scheme(
        True,
        "int-quantized",
        {**_INT8, "strategy": "channel", "dynamic": False},
        {**_INT8, "strategy": "token", "dynamic": True},
        "8-bit integers are computed on GPUs of compute capability 7.5 (Turing) and newer",
    ),
    "fp8_dynamic": Scheme(
        False,
        "float-quantized",
        {**_FP8, "strategy": "channel", "dynamic": False},
        {**_FP8, "strategy": "token", "dynamic": True},
        _ON_ADA,
    ),
    "fp8_static": Scheme(
        False,
        "float-quantized",
        {**_FP8, "strategy": "tensor", "dynamic": False},
        {**_FP8, "strategy": "tensor", "dynamic": False},
        _ON_ADA,
    ),
}

SMOOTHED = frozenset(
    (
        *("BloomForCausalLM", "CohereForCausalLM", "GraniteForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"),
        *("MixtralForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3ForCausalLM"),
        *("Qwen3MoeForCausalLM", "SeedOssForCausalLM"),
    )
)
"""Architectures of which llm-compressor knows the norm before each layer, into which its activations are smoothed.

Of others it takes Llama's names, which in models that also have norms after their layers mean something else.
"""
