"""What an adapter's configuration tells of it before it is loaded: what can be done with it, and what cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BOTTLENECK = "BOTTLENECK"
"""The peft_type of the adapters of `tuneforge.kit.bottleneck`."""

ON_QUANTIZED = (
    "the adapter sits on a quantized model, into whose rounded weights it cannot be merged exactly",
    "Train the adapter on the full-precision version of that model, merge it, and quantize the result.",
)
"""Why an adapter is not merged into a quantized model, and what to do instead."""

_PROMPTS = {
    "PREFIX_TUNING": "a prefix of keys and values",
    "PROMPT_TUNING": "a prompt of learnt vectors",
    "P_TUNING": "a prompt of learnt vectors",
}


def peft_type(config: Mapping[str, Any]) -> str:
    """The family of an adapter by its adapter_config.json, as PEFT calls it: LORA, IA3, PREFIX_TUNING."""
    return str(config.get("peft_type", ""))


def is_prompt(kind: str) -> bool:
    """Whether adapters of this peft_type stand before the text, in place of changing how a layer computes."""
    return kind in _PROMPTS


def needs_cache(kind: str) -> bool:
    """Whether adapters of this peft_type are a cache of keys and values, and so need one while they are trained."""
    return kind == "PREFIX_TUNING"


def unmergeable(kind: str) -> str:
    """Why adapters of this peft_type cannot be merged into the weights of a model; empty if they can."""
    if kind in _PROMPTS:
        return f"it is {_PROMPTS[kind]} before the text, which no weight of the model can hold"
    if kind == BOTTLENECK:
        return "it is layers with an activation of their own, which no weight of the model can hold"
    return ""


def quantized_base(config: Mapping[str, Any]) -> str:
    """The type, such as nf4, that an adapter's base was rounded to while it was trained; empty if it was not."""
    noted = config.get("auto_mapping")
    return str(noted.get("quantized_base", "")) if isinstance(noted, dict) else ""
