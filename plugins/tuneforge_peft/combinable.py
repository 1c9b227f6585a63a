"""Which adapters can be combined, and how, as far as their configurations tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneforge import Facts
from tuneforge.kit.adapters import peft_type

SAME_RANK = frozenset({"linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"})
"""Combinations of the matrices themselves, number by number."""

TRIMMED = frozenset(
    f"{name}{end}" for name in ("ties", "dare_linear", "dare_ties", "magnitude_prune") for end in ("", "_svd")
)
VOTED = frozenset({"ties", "ties_svd", "dare_ties", "dare_ties_svd"})

_BESIDE_THE_SUM = {
    "use_dora": "it trains the lengths of weights too (DoRA), which are no sum",
    "modules_to_save": "it holds whole layers of the model, of which PEFT keeps one adapter's at most",
    "trainable_token_indices": "it holds rows of the embedding, which PEFT leaves out",
    "target_parameters": "it sits on parameters in place of layers, which PEFT does not combine",
    "layer_replication": "it repeats layers of the model",
    "lora_bias": "it has biases, which PEFT leaves out",
    "alora_invocation_tokens": "it works from a certain token on only (aLoRA)",
    "use_qalora": "it works on groups of inputs (QALoRA)",
    "use_bdlora": "its matrices are block-diagonal (BD-LoRA)",
    "arrow_config": "it routes between adapters (Arrow)",
    "kasa_config": "it has singular values between its matrices (KaSA)",
    "monteclora_config": "its matrices are drawn at random (MonteCLoRA)",
    "velora_config": "it compresses what it is given (VeLoRA)",
}
"""What a LoRA may have besides two matrices a layer, none of which PEFT's combinations carry over."""


def uncombinable(config: Mapping[str, Any], combination: str) -> str:
    """Why an adapter of this adapter_config.json cannot take part in a combination; empty if it can."""
    kind = peft_type(config)
    if kind not in ("LORA", "IA3"):
        return f"PEFT combines LoRA and IA3, and it is {kind}" if kind else ""
    if kind == "IA3" and combination != "linear":
        return f"of IA3 there is linear only, and the combination is {combination}"
    for option, reason in _BESIDE_THE_SUM.items():
        if config.get(option):
            return reason
    if config.get("bias", "none") != "none":
        return "it has biases, which PEFT leaves out"
    if combination in SAME_RANK and config.get("rank_pattern"):
        return f"its ranks differ from layer to layer, and {combination} asks for equal ones; cat and svd do not"
    return ""


def apart(first: Facts, other: Facts, combination: str) -> str:
    """Why two adapters cannot be combined with each other; empty if, as far as is known, they can."""
    if peft_type(first.config) != peft_type(other.config):
        return f"they are of two types: {peft_type(first.config)} and {peft_type(other.config)}"
    if other_base(first, other):
        return "they were trained on two models"
    ranks = first.config.get("r"), other.config.get("r")
    if combination in SAME_RANK and None not in ranks and ranks[0] != ranks[1]:
        return f"{combination} asks for equal ranks, and theirs are {ranks[0]} and {ranks[1]}; cat and svd do not"
    return ""


def other_base(first: Facts, other: Facts) -> bool:
    """Whether two adapters are known to sit on different models: by digests once these are there, else by shapes."""
    ours, theirs = first.model, other.model
    if ours.digest and theirs.digest:
        return ours.digest != theirs.digest
    return any(
        one and two and one != two for one, two in ((ours.config, theirs.config), (ours.tensors, theirs.tensors))
    )


def narrowest(facts: Facts) -> int | None:
    """The smallest side of any weight that a LoRA changes, which has no higher rank than that; None if not known."""
    sides = [max(tensor.shape) for name, tensor in facts.tensors.items() if ".lora_" in name and len(tensor.shape) == 2]
    return min(sides, default=None)
