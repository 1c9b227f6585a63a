"""What text-generation-inference 3.3.7 takes, by its source: told from facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuneforge import Adapter, Facts, Finding
from tuneforge.kit.quantized import quant_method

# server/text_generation_server/models/__init__.py, ModelType: those that generate text from text.
_MODELS = frozenset(
    (
        *("baichuan", "bloom", "cohere", "dbrx", "deepseek_v2", "deepseek_v3", "falcon", "gemma", "gemma2", "gemma3"),
        *("gemma3_text", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "granite", "llama", "llama4", "mamba", "mistral"),
        *("mixtral", "mpt", "opt", "phi", "phi3", "phimoe", "qwen2", "starcoder2"),
    )
)

# The same file's get_model: what it chooses by quant_method. utils/quantization.py reads the fields.
_QUANTIZED = ("awq", "compressed-tensors", "gptq")

_LAYERS = frozenset(
    ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "c_proj", "c_fc")
)
"""The layers that it puts adapters on: of others it passes over an adapter's weights with a line in its log."""


def findings(known: Facts) -> Iterator[Finding]:
    """What stands against serving an artifact, or an adapter on it."""
    model = known.model.config
    kind = model.get("model_type")
    if kind and kind not in _MODELS:
        yield Finding(
            f"text-generation-inference has no code of its own for {kind} models, and there will be none",
            "Publish it with `publish: vllm`.",
            level="warning",
        )
    if known.tokenizer is not None and known.template is None:
        yield Finding(
            "there is no chat template, without which text-generation-inference takes no conversations, only texts",
            "Give the model one, if it is for conversations.",
            level="warning",
        )
    problem = unreadable(model) or (passed_over(known.config) if known.kind is Adapter else "")
    if problem:
        yield Finding(f"text-generation-inference {problem}", "Publish it with `publish: vllm`.")


def unreadable(config: Mapping[str, Any]) -> str:
    """What of a model's config.json it cannot read; empty if it can."""
    method = quant_method(config)
    settings = config.get("quantization_config") or {}
    if method == "bitsandbytes":
        return "rounds a model with bitsandbytes while it loads it, and cannot load what is already rounded"
    if method and method not in _QUANTIZED:
        return f"does not read models quantized by {method}"
    if method == "gptq" and settings.get("checkpoint_format", "gptq") != "gptq":
        return f"does not read the GPTQ format {settings['checkpoint_format']}"
    if method == "gptq" and settings.get("bits") not in (None, 2, 3, 4, 8):
        return f"does not read GPTQ with {settings['bits']} bits"
    if method == "awq" and settings.get("bits", settings.get("w_bit", 4)) != 4:
        return "reads AWQ with 4 bits only"
    rope = config.get("rope_parameters") or {}
    if rope and any(isinstance(part, Mapping) for part in rope.values()):
        return "has one kind of rotary embedding a model, and this one has a kind for each kind of layer"
    return ""


def passed_over(config: Mapping[str, Any]) -> str:
    """What of an adapter's adapter_config.json it would pass over without an error; empty if nothing."""
    targets = config.get("target_modules")
    if isinstance(targets, str):
        return "needs the layers of an adapter by name, not by a pattern"
    strange = sorted({name.rsplit(".", 1)[-1] for name in targets or ()} - _LAYERS)
    return f"puts no adapter on {', '.join(strange)}" if strange else ""
