"""The types of GGUF files: llama.cpp's numbers for them, and what becomes of most of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class FileType:
    """`number` is llama.cpp's own (`general.file_type`), `weights` the type of most weights, `block` what their rows
    are to be multiples of."""

    number: int
    weights: str
    block: int = 1

    @property
    def superblocks(self) -> bool:
        """Whether rows are cut into blocks of 256 weights, which not all models' rows are multiples of."""
        return self.block == 256


TYPES: Mapping[str, FileType] = {
    "f32": FileType(0, "F32"),
    "f16": FileType(1, "F16"),
    "bf16": FileType(32, "BF16"),
    "q8_0": FileType(7, "Q8_0", 32),
    "q6_k": FileType(18, "Q6_K", 256),
    "q5_k_m": FileType(17, "Q5_K", 256),
    "q5_k_s": FileType(16, "Q5_K", 256),
    "q4_k_m": FileType(15, "Q4_K", 256),
    "q4_k_s": FileType(14, "Q4_K", 256),
    "q4_0": FileType(2, "Q4_0", 32),
    "q3_k_m": FileType(12, "Q3_K", 256),
    "q2_k": FileType(10, "Q2_K", 256),
    "iq4_xs": FileType(30, "IQ4_XS", 256),
}

CONVERTED = ("f32", "f16", "bf16", "q8_0")
"""What llama.cpp's converter writes of a model by itself."""

FULL = ("f32", "f16", "bf16")
"""What can still be quantized: weights as the model has them."""


def type_of(number: object) -> str:
    """The name of a file type by its number; of one that is not written here, `type 19`."""
    return next((name for name, known in TYPES.items() if known.number == number), f"type {number}")
