"""What vLLM takes of an adapter, told from its adapter_config.json: no GPU and no vLLM needed.

As vLLM 0.33 has it, in vllm/lora/peft_helper.py and vllm/config/lora.py. It reads the few options that it knows, passes
over all others without a word, and scales every layer by lora_alpha / r. text-generation-inference does the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .adapters import peft_type

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for `--max-lora-rank`."""

# Of what these begin as, an adapter is a plain LoRA afterwards; others change the base's weights when PEFT loads them.
_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")

_UNSERVED = {
    "use_dora": "it is a DoRA",
    "lora_bias": "it has biases",
    "modules_to_save": "it has whole layers trained beside it",
    "trainable_token_indices": "it has embeddings of single tokens",
    "target_parameters": "it sits on parameters in place of layers",
    "rank_pattern": "its layers have ranks of their own",
    "alpha_pattern": "its layers have alphas of their own",
    "layer_replication": "it repeats layers of its model",
    "alora_invocation_tokens": "it is an activated LoRA",
    "use_qalora": "it is a QALoRA",
    "use_bdlora": "it is a BD-LoRA",
    "arrow_config": "it routes between adapters (Arrow)",
    "kasa_config": "it is a KaSA",
    "monteclora_config": "it is a MonteCLoRA",
}


def unserved(config: Mapping[str, Any]) -> str:
    """Why an adapter with this adapter_config.json cannot be served beside its base; empty if it can."""
    kind = peft_type(config)
    if kind != "LORA":
        return f"it is of the type {kind}, and only LoRA is served"
    for name, why in _UNSERVED.items():
        if config.get(name):
            return why
    if config.get("bias", "none") != "none":
        return "it has biases of the model trained beside it"
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower() not in _INITS:
        return f"its init_lora_weights, {begun}, changes the model's own weights"
    if config.get("r", 0) > RANKS[-1]:
        return f"its rank, {config['r']}, is above {RANKS[-1]}"
    return ""


def max_lora_rank(configs: Iterable[Mapping[str, Any]]) -> int:
    """The least `--max-lora-rank` for adapters with these configurations, each of which can be served."""
    most = max(config["r"] for config in configs)
    return next(size for size in RANKS if size >= most)
