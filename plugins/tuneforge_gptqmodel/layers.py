"""Which layers of a model are rounded, and the tensors that each becomes: known from names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tuneforge import Facts
from tuneforge.artifacts import Tensor

_IN_BLOCK = re.compile(r"\.\d+\..*\.weight$")
_ROUTERS = frozenset({"gate", "router", "shared_expert_gate", "wg"})
"""What chooses among experts is small, and stays as it is."""
_SIDEWAYS = frozenset({"gpt2"})
"""Models that store linear weights as (inputs, outputs)."""
_WORD = 32


@dataclass(frozen=True)
class Rounding:
    """How a layer is stored: GPTQ packs its inputs into 32-bit words, AWQ its outputs."""

    quant_method: Literal["awq", "gptq"]
    bits: int
    group_size: int
    scales: str
    """The dtype of the scales as safetensors calls it; empty for that of the weight."""
    halved: bool = False
    """Whether what is in float32, and is not packed, is stored in float16."""

    def stored(self, dtype: str) -> str:
        """The dtype in which a tensor of the model is stored that is not packed."""
        return "F16" if self.halved and dtype == "F32" else dtype

    def groups(self, inputs: int) -> int:
        """How many scales an output has."""
        return 1 if self.group_size == -1 else inputs // self.group_size

    def tensors(self, name: str, weight: Tensor, inputs: int, outputs: int) -> dict[str, Tensor]:
        """What the layer of that name is stored as, in place of its weight."""
        groups, words = self.groups(inputs), outputs * self.bits // _WORD
        found = {
            "qzeros": Tensor("I32", (groups, words)),
            "scales": Tensor(self.scales or self.stored(weight.dtype), (groups, outputs)),
        }
        if self.quant_method == "awq":
            found["qweight"] = Tensor("I32", (inputs, words))
        else:
            found["qweight"] = Tensor("I32", (inputs * self.bits // _WORD, outputs))
            found["g_idx"] = Tensor("I32", (inputs,))
        return {f"{name}.{part}": tensor for part, tensor in found.items()}


def linear_layers(given: Facts) -> dict[str, tuple[int, int]]:
    """The linear layers of a model's blocks, with inputs and outputs; not its embedding, head, norms and routers."""
    sideways = given.config.get("model_type") in _SIDEWAYS
    found = {}
    for name, tensor in given.tensors.items():
        layer = name.removesuffix(".weight")
        if not _IN_BLOCK.search(name) or len(tensor.shape) != 2 or layer.rpartition(".")[2] in _ROUTERS:
            continue
        outputs, inputs = reversed(tensor.shape) if sideways else tensor.shape
        found[layer] = (inputs, outputs)
    return found


def rounded(given: Facts, rounding: Rounding) -> dict[str, Tensor]:
    """The tensors of the quantized model; empty where those of the model are not known."""
    layers = linear_layers(given)
    found = {
        name: Tensor(rounding.stored(tensor.dtype), tensor.shape)
        for name, tensor in given.tensors.items()
        if name.removesuffix(".weight") not in layers
    }
    for layer, (inputs, outputs) in layers.items():
        found |= rounding.tensors(layer, given.tensors[f"{layer}.weight"], inputs, outputs)
    return found


def differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, str]:
    """What is not as foreseen, by tensor; a tensor that is tied to another may be missing, or be there twice."""
    told = {}
    for name, tensor in wanted.items():
        there = found.get(name)
        if there is None:
            if name.endswith((".qweight", ".qzeros", ".scales")):
                told[name] = "missing"
        elif (there.dtype, there.shape) != (tensor.dtype, tensor.shape) and _is_packed(name):
            told[name] = f"{there.dtype} of {there.shape} in place of {tensor.dtype} of {tensor.shape}"
    for name in found.keys() - wanted.keys():
        layer = name.removesuffix(".weight")
        if f"{layer}.qweight" in wanted:
            told[name] = "still there as it was"
        elif _is_packed(name):
            told[name] = "packed, though it was to stay as it is"
    return told


def _is_packed(name: str) -> bool:
    return name.endswith((".qweight", ".qzeros", ".scales", ".g_idx"))
