"""The config.json of a merged model, and which of its tensors hang on the number of tokens and of layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tuneforge.artifacts import Tensor

DEPTH = ("num_hidden_layers", "n_layer")
"""How architectures call the number of their layers."""

SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
_LAYER = re.compile(r"\.(\d+)\.")


def depth_of(config: Mapping[str, Any]) -> int | None:
    """The number of layers that a config.json tells."""
    return next((int(config[name]) for name in DEPTH if name in config), None)


def is_of_tokens(tensor: Tensor, config: Mapping[str, Any]) -> bool:
    """Whether a tensor has a row for each token: an embedding, or an output head."""
    return tensor.shape[:1] == (config.get("vocab_size"),)


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
    there) are given where they are other than the root's.
    """
    config = dict(root)
    if dtype is not None:
        config["torch_dtype" if "torch_dtype" in root else "dtype"] = dtype
    if rows is not None:
        config["vocab_size"] = rows
    if layers is not None:
        config |= {name: len(layers) for name in DEPTH if name in root}
        if "layer_types" in root:
            config["layer_types"] = [of["layer_types"][number] for of, number in layers]
    config |= {name: giver[name] for name in SPECIAL if name in giver}
    return config
