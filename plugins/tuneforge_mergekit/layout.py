"""The config.json of a merged model, and which of its tensors hang on the number of tokens and of layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuneforge import Facts
from tuneforge.artifacts import Tensor

DEPTH = ("num_hidden_layers", "n_layer")
"""How architectures call the number of their layers."""

SHORT = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""What headers of weights call a type."""

SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
_HEAD = "lm_head.weight"
_LAYER = re.compile(r"\.(\d+)\.")


def depth_of(config: Mapping[str, Any]) -> int | None:
    """The number of layers that a config.json tells."""
    return next((int(config[name]) for name in DEPTH if name in config), None)


def is_of_tokens(tensor: Tensor, config: Mapping[str, Any]) -> bool:
    """Whether a tensor has a row for each token: an embedding, or an output head."""
    return tensor.shape[:1] == (config.get("vocab_size"),)


def comparable(facts: Facts) -> dict[str, Tensor]:
    """A model's tensors without a head that is its embedding: some tools store it a second time where both are one."""
    head = facts.tensors.get(_HEAD) if facts.config.get("tie_word_embeddings") else None
    others = {name: tensor for name, tensor in facts.tensors.items() if name != _HEAD}
    twice = head is not None and any(tensor.shape == head.shape for tensor in others.values())
    return others if twice else dict(facts.tensors)


def stored_as(dtype: str, tensor: Tensor) -> Tensor:
    """What becomes of a tensor in a model that is stored as `dtype`: no other than one of such numbers is changed."""
    return replace(tensor, dtype=SHORT[dtype]) if tensor.dtype in SHORT.values() else tensor


def layer_of(name: str) -> int | None:
    """The layer that a tensor belongs to, by its name; None if to none."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def in_layer(name: str, layer: int) -> str:
    """The name that a layer's tensor has in another layer."""
    return _LAYER.sub(f".{layer}.", name, count=1)


def merged_config(
    root: Mapping[str, Any],
    giver: Mapping[str, Any],
    *,
    dtype: str | None = None,
    rows: int | None = None,
    layers: Sequence[tuple[Mapping[str, Any], int]] | None = None,
) -> dict[str, Any]:
    """The config.json of the result: that of `root`, with the special tokens of `giver`, whose tokenizer it has.

    `dtype`, `rows` (the number of tokens) and `layers` (for each its model's configuration, and which layer it is
    there) are given where they are other than the root's. Lists with an entry for each layer, such as `layer_types`,
    go with the layers.
    """
    config = dict(root)
    if dtype is not None:
        config["torch_dtype" if "torch_dtype" in root else "dtype"] = dtype
    if rows is not None:
        config["vocab_size"] = rows
    if layers is not None:
        config |= {name: len(layers) for name in DEPTH if name in root}
        for name in layers[0][0]:
            if all(_by_layer(of, name) for of, _ in layers):
                config[name] = [of[name][number] for of, number in layers]
    config |= {name: giver[name] for name in SPECIAL if name in giver}
    return config


def _by_layer(config: Mapping[str, Any], name: str) -> bool:
    """Whether a setting is a list with an entry for each layer."""
    value = config.get(name)
    return isinstance(value, list) and len(value) == depth_of(config) and name not in ("architectures", *SPECIAL)
