"""What a served model takes of memory, as far as its configuration tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneforge.artifacts import context_length
from tuneforge.report import figures

_HALF = 2  # bytes of a key's or a value's number, as every engine stores them unless told otherwise


@dataclass(frozen=True)
class Needs:
    """`context` in tokens; in bytes what the `weights` take, and what the keys and values of one such context do."""

    context: int | None
    weights: int
    cache: int | None

    def told(self, dtype: str = "") -> str:
        """One sentence for a person."""
        weights = f"The weights take {figures.size(self.weights)}{f' as {dtype}' if dtype else ''}"
        if self.context is None or self.cache is None:
            return f"{weights}, and what a conversation takes comes on top."
        return f"{weights}, and one conversation of {self.context} tokens {figures.size(self.cache)} more."


def needs_of(config: Mapping[str, Any], weights: int, context: int | None) -> Needs:
    """Of a model by its config.json, for conversations of `context` tokens or what it was made for."""
    config = config.get("text_config", config)
    length = context or context_length(config)
    heads = config.get("num_attention_heads")
    size = config.get("head_dim") or (config["hidden_size"] // heads if heads and "hidden_size" in config else None)
    sizes = (config.get("num_hidden_layers"), config.get("num_key_value_heads") or heads, size, length)
    return Needs(length, weights, cache_bytes(*sizes))


def cache_bytes(layers: int | None, heads: int | None, size: int | None, length: int | None) -> int | None:
    """Of the keys and values of one conversation; None if something is not known."""
    return 2 * _HALF * layers * heads * size * length if layers and heads and size and length else None
