"""Which layers of a model are rounded, and the tensors that each becomes: known from names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tuneforge import Facts
from tuneforge.artifacts import Tensor
from tuneforge.kit.packed import linear_layers, stored_type

SIDEWAYS = frozenset({"gpt2"})
"""Models that store linear weights as (inputs, outputs)."""
WORD = 32
"""Bits of the integers that numbers are packed into."""

_GATES = frozenset({"in_proj_a", "in_proj_b", "in_proj_ba"})
"""What gates linear attention is an output or two a head, which the libraries leave as it is."""


@dataclass(frozen=True)
class Rounding:
    """How a layer is stored: GPTQ packs its inputs into 32-bit words, AWQ its outputs."""

    quant_method: Literal["awq", "gptq"]
    bits: int
    group_size: int
    scales: str
    """The dtype of the scales as safetensors calls it; empty for that in which the library holds the model."""
    halved: frozenset[str] = frozenset()
    """The dtypes of models that the library holds in float16 instead."""

    def held(self, tensors: Mapping[str, Tensor]) -> str:
        """The dtype in which the library holds a model, and stores what is not packed; empty if it is not known."""
        stored = stored_type(tensors)
        return "F16" if stored in self.halved else stored

    def groups(self, inputs: int) -> int:
        """How many scales an output has."""
        return 1 if self.group_size == -1 else inputs // self.group_size

    def tensors(self, name: str, held: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        """What the layer of that name is stored as, in place of its weight."""
        groups, words = self.groups(inputs), outputs * self.bits // WORD
        found = {
            "qzeros": Tensor("I32", (groups, words)),
            "scales": Tensor(self.scales or held, (groups, outputs)),
        }
        if self.quant_method == "awq":
            found["qweight"] = Tensor("I32", (inputs, words))
        else:
            found["qweight"] = Tensor("I32", (inputs * self.bits // WORD, outputs))
            found["g_idx"] = Tensor("I32", (inputs,))
        return {f"{name}.{part}": tensor for part, tensor in found.items()}


def shapes(given: Facts) -> dict[str, tuple[int, int]]:
    """The linear layers of a model that are to be rounded, with inputs and outputs."""
    sideways = given.config.get("model_type") in SIDEWAYS
    found = {}
    for layer in linear_layers(given.tensors, given.config):
        if layer.rpartition(".")[2] not in _GATES:
            rows, columns = given.tensors[f"{layer}.weight"].shape
            found[layer] = (rows, columns) if sideways else (columns, rows)
    return found


def rounded(given: Facts, rounding: Rounding) -> dict[str, Tensor]:
    """The tensors of the quantized model; empty where those of the model are not known."""
    layers, stored, held = shapes(given), stored_type(given.tensors), rounding.held(given.tensors)
    found = {
        name: Tensor(held if tensor.dtype == stored else tensor.dtype, tensor.shape)
        for name, tensor in given.tensors.items()
        if name.removesuffix(".weight") not in layers
    }
    for layer, (inputs, outputs) in layers.items():
        found |= rounding.tensors(layer, held, inputs, outputs)
    return found


def differences(given: Facts, rounding: Rounding, found: Mapping[str, Tensor]) -> dict[str, str]:
    """What is not as foreseen, by tensor; a tensor that is tied to another may be missing, or be there twice.

    A tensor that is not packed may be in the dtype of the whole model, or in its own.
    """
    wanted, held = rounded(given, rounding), rounding.held(given.tensors)
    told = {}
    for name, tensor in wanted.items():
        there = found.get(name)
        if there is None:
            if name.endswith((".qweight", ".qzeros", ".scales")):
                told[name] = "missing"
        elif _is_packed(name):
            if there != tensor:
                told[name] = f"{there.dtype} of {there.shape} in place of {tensor.dtype} of {tensor.shape}"
        elif there.dtype not in (held, given.tensors[name].dtype):
            told[name] = f"{there.dtype} in place of {tensor.dtype}"
    for name in found.keys() - wanted.keys():
        layer = name.removesuffix(".weight")
        if f"{layer}.qweight" in wanted:
            told[name] = "still there as it was"
        elif _is_packed(name):
            told[name] = "packed, though it was to stay as it is"
    return told


def _is_packed(name: str) -> bool:
    return name.endswith((".qweight", ".qzeros", ".scales", ".g_idx"))
