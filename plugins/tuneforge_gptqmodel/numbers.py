"""The numbers in packed tensors: whether there are any, and what they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from .layers import WORD, Rounding

_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word of eight AWQ's kernels look for the first, the second, ... output."""


def empty_layers(folder: Path) -> dict[str, str]:
    """What is wrong with the packed numbers, by tensor: all alike, or scales that are not finite or all zero."""
    told = {}
    for name, tensor in _packed(folder):
        if name.endswith(".scales") and not (torch.isfinite(tensor).all() and tensor.any()):
            told[name] = "not finite, or zero throughout"
        elif name.endswith(".qweight") and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
            told[name] = "one number throughout"
    return told


def unpacked(folder: Path, rounding: Rounding) -> dict[str, torch.Tensor]:
    """The weights that the packed tensors stand for, as (outputs, inputs) in float32, by their name in the model."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in _packed(folder):
        layer, _, part = name.rpartition(".")
        parts.setdefault(layer, {})[part] = tensor
    return {f"{layer}.weight": _weight(found, rounding) for layer, found in parts.items()}


def _packed(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as shard:
            for name in shard.keys():  # noqa: SIM118
                if name.endswith((".qweight", ".qzeros", ".scales", ".g_idx")):
                    yield name, shard.get_tensor(name)


def _weight(parts: dict[str, torch.Tensor], rounding: Rounding) -> torch.Tensor:
    """(number - zero point) * scale, of 4 or 8 bits. AWQ packs outputs in an order of its own, GPTQ inputs, with zero
    points one too low."""
    scales = parts["scales"].float()
    if rounding.quant_method == "awq":
        numbers, zeros = (_reordered(_columns(parts[part], rounding.bits)) for part in ("qweight", "qzeros"))
        size = len(numbers) // len(scales)
        group = torch.arange(len(numbers)) // size
    else:
        numbers = _columns(parts["qweight"].T.contiguous(), rounding.bits).T
        zeros = _columns(parts["qzeros"], rounding.bits) + 1
        group = parts["g_idx"].long()
    return ((numbers - zeros[group]) * scales[group]).T.contiguous()


def _columns(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Words of (rows, columns) as their numbers, (rows, columns * 32 / bits), the lowest bits first."""
    shifts = torch.arange(0, WORD, bits, dtype=torch.int32)
    numbers = words.unsqueeze(-1).bitwise_right_shift(shifts).bitwise_and(2**bits - 1)
    return numbers.reshape(len(words), -1).float()


def _reordered(numbers: torch.Tensor) -> torch.Tensor:
    eights = numbers.reshape(len(numbers), -1, len(_AWQ_ORDER))
    return torch.stack([eights[..., place] for place in _AWQ_ORDER], dim=-1).reshape(numbers.shape)
