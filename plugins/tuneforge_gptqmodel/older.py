"""A model's config.json as transformers 4 reads it, for libraries that stopped there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneforge import StepError

_SCALINGS = frozenset({"dynamic", "linear", "llama3", "longrope", "yarn"})


def older_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same configuration in the words of transformers 4. Raises StepError where that has none.

    transformers 4 passes over `rope_parameters` without a word, and takes a rotary base of 10,000 for whatever it was.
    """
    found = {name: value for name, value in config.items() if name not in ("rope_parameters", "dtype")}
    if "dtype" in config:
        found["torch_dtype"] = config["dtype"]
    rope = config.get("rope_parameters")
    if rope is None:
        return found
    kind = rope.get("rope_type", "default")
    if any(isinstance(value, dict) for value in rope.values()) or kind not in _SCALINGS | {"default"}:
        raise StepError(
            "the model's rotary embedding is one that transformers 4 does not know, on which this backend stands",
            "Take backend: gptqmodel.",
        )
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            found[name] = rope[name]
    scaling = {name: value for name, value in rope.items() if name not in ("rope_theta", "partial_rotary_factor")}
    found["rope_scaling"] = None if kind == "default" else scaling
    return found
