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
