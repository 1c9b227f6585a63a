"""What servers of transformers models ask of a model and of adapters on it: told from facts, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuneforge import Adapter, Facts, Finding, Known
from tuneforge.artifacts import context_length
from tuneforge.kit.adapters import peft_type

_MERGE = "Merge the adapter with `merge: adapter`, and publish the merged model."

# Of what these begin as, an adapter is a plain LoRA afterwards; others change the base's weights when PEFT loads them.
_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")

_UNSERVED = {
    "use_dora": "it is a DoRA",
    "lora_bias": "it has biases",
    "modules_to_save": "it has whole layers trained beside it",
    "trainable_token_indices": "it has embeddings of single tokens",
    "layer_replication": "it repeats layers of its model",
    "alora_invocation_tokens": "it is an activated LoRA",
    "use_qalora": "it is a QALoRA",
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
    return ""


def rank(config: Mapping[str, Any]) -> int:
    """The largest rank of a LoRA's layers."""
    return int(max([config["r"], *(config.get("rank_pattern") or {}).values()]))


def common(engine: str, facts: Known, context: int | None) -> Iterator[Finding]:
    """Findings that every such server has."""
    given = facts["artifacts"]
    if sum(known.kind is not Adapter for known in given) > 1:
        yield Finding(
            f"a server of {engine} has one model, with adapters on it, and there are several models here",
            "Publish each into a folder of its own.",
        )
    for known in given:
        if known.kind is Adapter:
            why = unserved(known.config)
            if why:
                yield Finding(f"{engine} cannot serve the adapter: {why}", _MERGE)
    templates = {known.template for known in given if known.template}
    if len(templates) > 1:
        yield Finding(
            f"the artifacts have different chat templates, and a server of {engine} has one",
            "Publish each into a folder of its own.",
        )
    yield from _too_long(engine, given[0].model, context)


def _too_long(engine: str, model: Facts, context: int | None) -> Iterator[Finding]:
    made_for = context_length(model.config)
    if context and made_for and context > made_for:
        yield Finding(
            f"the model was made for {made_for} tokens, and {engine} is to serve {context}",
            f"Set context to {made_for} or less.",
            field="context",
        )
