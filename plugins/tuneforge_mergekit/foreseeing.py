"""The facts of a merged model, from those of the models."""

from __future__ import annotations

from dataclasses import replace

from tuneforge import Facts, Known, Model
from tuneforge.artifacts import Tensor

from .base import ModelMerge
from .layers import Passthrough
from .layout import in_layer, is_of_tokens, layer_of, merged_config, stored_as
from .vocabulary import aligned, together


def result(method: ModelMerge, known: Known) -> Facts:
    """What is known of the result before it is there; of what is not, nothing is said."""
    models, base = known.get("models", ()), next(iter(known.get("base", ())), None)
    if not models:
        return Facts(Model)
    root, donor = base or models[0].model, method.donor()
    giver = models[donor] if isinstance(donor, int) else root if donor else models[0]
    if donor == "union" and root.tokenizer:  # which may have no template
        giver = next((one for one in (root, *models) if one.template), root)
    tokenizer, template, rows, tensors = giver.tokenizer, giver.template, None, dict(root.tensors)
    if donor is not None:
        everyone = [root, *models] if base else [*models]
        there = [
            (one.tokenizer, one.model.config)
            for one in everyone
            if one.tokenizer and (one.tokenizer / "tokenizer.json").exists()
        ]
        if len(there) < len(everyone):  # whether they are aligned is not known yet
            return Facts(Model, root.config, template=template)
        if not aligned(there):
            folders = [folder for folder, _ in there]
            rows = together(folders if donor == "union" else [folders[_place(everyone, giver)]])
            tokenizer = None if donor == "union" else tokenizer
            tensors = {
                name: replace(tensor, shape=(rows, *tensor.shape[1:])) if is_of_tokens(tensor, root.config) else tensor
                for name, tensor in tensors.items()
            }
    layers = None
    if isinstance(method, Passthrough):
        layers = [(models[part.model].model, layer) for part in method.stack for layer in range(*part.layers)]
        tensors = _stacked(tensors, layers)
    if method.dtype is not None:
        tensors = {name: stored_as(method.dtype, tensor) for name, tensor in tensors.items()}
    configs = [(of.config, layer) for of, layer in layers] if layers is not None else None
    config = merged_config(root.config, giver.model.config, dtype=method.dtype, rows=rows, layers=configs)
    return Facts(Model, config, tensors, tokenizer, template)


def _place(everyone: list[Facts], giver: Facts) -> int:
    return next(number for number, one in enumerate(everyone) if one is giver)


def _stacked(tensors: dict[str, Tensor], layers: list[tuple[Facts, int]]) -> dict[str, Tensor]:
    outside = {name: tensor for name, tensor in tensors.items() if layer_of(name) is None}
    return outside | {
        in_layer(name, place): tensor
        for place, (model, layer) in enumerate(layers)
        for name, tensor in model.tensors.items()
        if layer_of(name) == layer
    }
