"""Which layers of a model are stored in fewer bits, told by the names and types of its tensors alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from tuneforge import Facts, Finding, StepError
from tuneforge.artifacts import Tensor

from .quantized import quant_method

Tensors = Mapping[str, Tensor]
Config = Mapping[str, Any]

_PACKED = ("qweight", "weight_packed")
"""What the numbers of a packed layer are called: by GPTQ and AWQ, and by compressed-tensors."""
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Floating-point types as safetensors calls them, and as torch and config.json do."""
_OTHER_SENSES = ("vision", "visual", "audio", "image", "projector", "connector")
_ROUTERS = ("router", "gate", "shared_expert_gate", "wg")


def stored_type(tensors: Tensors) -> str:
    """The floating-point type in which most of the weights are stored, as safetensors calls it; empty if none is."""
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.bytes if tensor.dtype in FLOATS else 0
    return next((dtype for dtype, size in sizes.most_common(1) if size), "")


def linear_layers(tensors: Tensors, config: Config) -> list[str]:
    """The linear layers of a full model that a quantization is to round, in the order of `tensors`.

    They are those of the repeated blocks, each expert of a mixture among them. Embeddings, the output head, routers and
    what sees or hears for the model are none of them: they are small, and much hangs on them. Nor are heads that draft
    further tokens, in blocks beyond those that `config` counts or called mtp: transformers does not load them.
    """
    blocks = (config.get("text_config") or config).get("num_hidden_layers")
    found = [name.removesuffix(".weight") for name, tensor in tensors.items() if _is_matrix(name, tensor)]
    return [layer for layer in found if _in_block(layer, blocks) and not _is_apart(layer)]


def fused_experts(tensors: Tensors) -> list[str]:
    """Tensors of three dimensions that hold the matrices of several experts at once."""
    return [name for name, tensor in tensors.items() if len(tensor.shape) == 3 and "experts" in name.split(".")]


def roundable(tensors: Tensors, config: Config) -> list[str]:
    """All that a quantization is to round: linear layers, and experts that are stored together."""
    return [*linear_layers(tensors, config), *fused_experts(tensors)]


def experts(tensors: Tensors, config: Config) -> list[str]:
    """Those of them that belong to the experts of a mixture."""
    return [name for name in roundable(tensors, config) if "experts" in name.split(".")]


def apart_layers(tensors: Tensors) -> list[str]:
    """Linear layers that are to stay as they are, and that a library would round unless it is told their names."""
    layers = [name.removesuffix(".weight") for name, tensor in tensors.items() if _is_matrix(name, tensor)]
    # Drafting heads are not loaded by transformers, and embeddings are no linear layers.
    return [layer for layer in layers if _is_apart(layer) and "mtp" not in layer.split(".") and not _embeds(layer)]


def is_packed(layer: str, tensors: Tensors) -> bool:
    """Whether a layer of a quantized model is stored in fewer bits."""
    if any(f"{layer}.{last}" in tensors for last in _PACKED):
        return True
    weight = tensors.get(f"{layer}.weight")
    return weight is not None and weight.dtype not in FLOATS


def packed_layers(tensors: Tensors) -> list[str]:
    """The layers of a quantized model that are stored in fewer bits, in the order of `tensors`."""
    layers = dict.fromkeys(name.rpartition(".")[0] for name in tensors if name.endswith((".weight", *_PACKED)))
    return [layer for layer in layers if is_packed(layer, tensors)]


def check_packed(full: Tensors, config: Config, quantized: Tensors, skip: Sequence[str], library: str) -> None:
    """Raises StepError unless a quantized model holds in fewer bits what it is to, but for `skip`, and nothing else."""
    layers, fused = linear_layers(full, config), fused_experts(full)
    kept = {*named(skip, [*layers, *fused])}
    # Some models are released without the first part of the names that transformers then writes.
    packed = {name: layer for layer in packed_layers(quantized) for name in (layer, layer.partition(".")[2])}
    left = [layer for layer in layers if layer not in kept and layer not in packed]
    left += [name for name in fused if name not in kept and name in quantized and quantized[name].dtype in FLOATS]
    if left:
        raise StepError(
            f"{library} left {len(left)} linear layers as they were: {examples(left)}",
            "If that is wanted, name them under skip; else take another way to quantize this model.",
        )
    spoilt = [name for name in (*apart_layers(full), *kept) if name in packed]
    if spoilt:
        raise StepError(
            f"{library} rounded {len(spoilt)} layers that are to stay as they are: {examples(spoilt)}",
            "Report the model's architecture, and take another way to quantize it.",
        )


def check_full(model: Facts) -> Iterator[Finding]:
    """Findings on a model that cannot be quantized: quantized already, or without linear layers."""
    settings = model.config.get("quantization_config")
    if settings:
        yield Finding(
            f"the model is quantized already, by {quant_method(model.config)}",
            "Start from its full-precision version: what was rounded away does not come back.",
        )
    elif model.tensors and not roundable(model.tensors, model.config):
        kind = model.config.get("model_type", "model")
        yield Finding(f"a {kind} has no linear layers in its blocks to quantize", "Leave this step out.")


def named(patterns: Sequence[str], layers: Sequence[str]) -> list[str]:
    """The layers that patterns stand for: whole names, their beginnings or endings, or wild cards (`*.mlp.*`)."""
    return [layer for layer in layers if any(_stands_for(pattern, layer) for pattern in patterns)]


def check_skipped(patterns: Sequence[str], layers: Sequence[str], field: str) -> Iterator[Finding]:
    """Findings on patterns that stand for none of the linear layers, or together for all of them."""
    if not layers:
        return
    for pattern in patterns:
        if not named([pattern], layers):
            names = sorted({layer.rsplit(".", 1)[-1] for layer in layers})
            near = get_close_matches(pattern, [*names, *layers], 1, 0.6)
            fix = f"Did you mean {near[0]}?" if near else f"It has {', '.join(names)}, and blocks such as {layers[0]}."
            yield Finding(f"the model has no linear layer {pattern!r} to leave as it is", fix, field=field)
    if patterns and len(named(patterns, layers)) == len(layers):
        yield Finding("no layer would be left to be quantized", "Name fewer of them.", field=field)


def examples(names: Sequence[str], most: int = 4) -> str:
    """Some of many names, for a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _stands_for(pattern: str, layer: str) -> bool:
    return (
        layer == pattern
        or layer.startswith(f"{pattern}.")
        or layer.endswith(f".{pattern}")
        or f".{pattern}." in layer
        or fnmatchcase(layer, pattern)
    )


def _is_matrix(name: str, tensor: Tensor) -> bool:
    return len(tensor.shape) == 2 and name.endswith(".weight") and tensor.dtype in FLOATS


def _in_block(layer: str, blocks: int | None) -> bool:
    place = next((int(part) for part in layer.split(".") if part.isdigit()), None)
    return place is not None and (blocks is None or place < blocks)


def _is_apart(layer: str) -> bool:
    parts = layer.split(".")
    other_sense = any(word in part for part in parts for word in _OTHER_SENSES)
    return other_sense or "mtp" in parts or _embeds(layer) or parts[-1] in _ROUTERS


def _embeds(layer: str) -> bool:
    """Whether it is a table of embeddings, unlike what projects them."""
    last = layer.rpartition(".")[2]
    return last.startswith("embed_") or last.endswith(("embed", "embedding", "embeddings"))
