"""What a mixture of experts is made of: its config.json, and its tensors by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuneforge import Facts, Model
from tuneforge.artifacts import Tensor

from .layout import stored_as

_MLP = re.compile(r"^(?P<layer>.*)\.mlp\.(?P<part>gate_proj|up_proj|down_proj)\.weight$")


@dataclass(frozen=True)
class Mixture:
    """A kind of mixture as transformers has it: its names, and where in a layer experts and router have theirs.

    Such is the layout that transformers writes, and that llama.cpp and vLLM read: a matrix an expert.
    """

    model_type: str
    architecture: str
    counted: str
    inside: str
    parts: Mapping[str, str]


_MIXTRAL = Mixture(
    "mixtral",
    "MixtralForCausalLM",
    "num_local_experts",
    "block_sparse_moe",
    {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"},
)
_QWEN3 = Mixture(
    "qwen3_moe",
    "Qwen3MoeForCausalLM",
    "num_experts",
    "mlp",
    {name: name for name in ("gate_proj", "up_proj", "down_proj")},
)

MIXTURES = {"llama": _MIXTRAL, "mistral": _MIXTRAL, "qwen3": _QWEN3}
"""What models of a type become."""


def unmixable(config: Mapping[str, Any]) -> str:
    """Why models of this config.json cannot become a mixture; empty if they can, or nothing is known."""
    if "quantization_config" in config:
        return "is quantized"
    kind = config.get("model_type")
    if kind is None:
        return ""
    if kind not in MIXTURES:
        return f"is a {kind}, of which there is no mixture"
    for biased in ("attention_bias", "mlp_bias"):
        if config.get(biased):
            return f"has biases ({biased}), which a {MIXTURES[kind].model_type} has not"
    if kind == "qwen3" and config.get("use_sliding_window"):
        return "has windows in some layers only (use_sliding_window), and a qwen3_moe in all or none"
    return ""


def foreseen(root: Facts, experts: int, experts_per_token: int, dtype: str | None) -> Facts:
    """The facts of a mixture whose shared layers are those of `root`."""
    mixture = MIXTURES.get(str(root.config.get("model_type")))
    if mixture is None:
        return Facts(Model, tokenizer=root.tokenizer, template=root.template)
    config = {
        **root.config,
        "model_type": mixture.model_type,
        "architectures": [mixture.architecture],
        mixture.counted: experts,
        "num_experts_per_tok": experts_per_token,
        **({"dtype": dtype} if dtype else {}),
    }
    tensors: dict[str, Tensor] = {}
    for name, tensor in root.tensors.items():
        stored = stored_as(dtype, tensor) if dtype else tensor
        found = _MLP.match(name)
        if found is None:
            tensors[name] = stored
            continue
        inside = f"{found['layer']}.{mixture.inside}"
        for expert in range(experts):
            tensors[f"{inside}.experts.{expert}.{mixture.parts[found['part']]}.weight"] = stored
        if found["part"] == "up_proj":
            tensors[f"{inside}.gate.weight"] = replace(stored, shape=(experts, tensor.shape[1]))
    return Facts(Model, config, tensors, root.tokenizer, root.template)


def apart(name: str, mixture: Mixture) -> list[str]:
    """The names under which parts of a tensor are written that transformers holds as one, in the order of its rows.

    Of the experts' first matrices, which are two in one, both; of all other tensors, its own name alone. An expert's
    has {} in place of its number.
    """
    layer, inside, part = name.partition(".mlp.")
    if not inside:
        return [name]
    if part == "gate.weight":
        return [f"{layer}.{mixture.inside}.gate.weight"]
    held = {"experts.gate_up_proj": ("gate_proj", "up_proj"), "experts.down_proj": ("down_proj",)}[part]
    return [f"{layer}.{mixture.inside}.experts.{{}}.{mixture.parts[each]}.weight" for each in held]
