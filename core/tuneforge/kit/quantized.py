"""What a quantized model's configuration tells of it before it is loaded: how it was rounded, and what loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneforge import StepError

GPTQMODEL = ("accelerate>=1.10", "gptqmodel>=7.6,<7.7", "optimum>=2.3")
"""What makes and loads GPTQ and AWQ. Pinned: the next release asks for a newer torch, and its inner names move."""

_NEEDS = {
    "awq": GPTQMODEL,
    "bitsandbytes": ("accelerate>=1.10", "bitsandbytes>=0.46.1"),
    "compressed-tensors": ("accelerate>=1.10", "compressed-tensors>=0.15"),
    "gptq": GPTQMODEL,
}


def quant_method(config: Mapping[str, Any]) -> str:
    """How a model was quantized by its config.json, as transformers calls it: gptq, awq; empty if it was not."""
    settings = config.get("quantization_config") or {}
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):  # older ones say no more
        return "bitsandbytes"
    return str(settings.get("quant_method", "")) or ("unknown" if settings else "")


def packed_zero_points(config: Mapping[str, Any]) -> bool:
    """Whether a model of compressed-tensors is to be unpacked as it is loaded, for transformers to load it at all.

    From 5.23 on transformers finds the packed zero points of asymmetric weights to be of another size than a packed
    layer's. Unpacked, such a model computes the same, if nothing but weights is rounded, and all layers alike: they
    would be unpacked alike.
    """
    settings = config.get("quantization_config") or {}
    found = settings.get("config_groups") or {}
    groups = [group for group in found.values() if isinstance(group, dict)]
    rounded = [group.get("weights") or {} for group in groups]
    return (
        quant_method(config) == "compressed-tensors"
        and bool(groups)
        and len(groups) == len(found)
        and {group.get("format") or settings.get("format") for group in groups} == {"pack-quantized"}
        and all(weights == rounded[0] and weights.get("symmetric") is False for weights in rounded)
        and not any(group.get("input_activations") for group in groups)
    )


def needs_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The requirement strings of what loads a model with this config.json, beside torch and transformers.

    None for a model that is not quantized. Raises StepError for a quantization that nothing here loads.
    """
    method = quant_method(config)
    if method and method not in _NEEDS:
        raise StepError(
            f"nothing here loads a model quantized by {method}", f"There are: {', '.join(_NEEDS)}, and GGUF files."
        )
    return _NEEDS.get(method, ())
