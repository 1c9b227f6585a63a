"""How large a model is, by what is known of it before it is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tuneforge import Facts


def parameters(model: Facts) -> int:
    """About how many parameters a model has: by its weights, else by the sizes in its configuration, else 0."""
    if model.tensors:
        return sum(math.prod(tensor.shape) * _packed(name, tensor.dtype) for name, tensor in model.tensors.items())
    config: Mapping[str, Any] = model.config.get("text_config", model.config)

    def size(*names: str) -> int:
        return next((config[name] for name in names if isinstance(config.get(name), int)), 0)

    width, layers = size("hidden_size", "n_embd", "d_model"), size("num_hidden_layers", "n_layer", "n_layers")
    inner = size("intermediate_size", "n_inner", "ffn_dim") or 4 * width
    return layers * (4 * width**2 + 3 * width * inner) + size("vocab_size") * width


def _packed(name: str, dtype: str) -> int:
    """How many parameters one number of a quantized weight holds: of four bits, as most are."""
    if name.endswith(("qweight", "weight_packed")):
        return 8
    return 2 if dtype == "U8" and name.endswith(".weight") else 1
