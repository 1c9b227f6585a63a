"""How a GGUF file stores a model: which types its tensors have, and whether they are what was asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gguf

from tuneforge import StepError

from .metadata import file_type
from .types import TYPES

_UNTOUCHED = {"F32", "F16", "BF16"}


def stored(reader: gguf.GGUFReader) -> dict[str, Any]:
    """Figures: `tensors`, how many are of the type asked for, how many of which (`tensor_types`), `bits_per_weight` of
    all together, and `tensors_fallen_back`: of a type with blocks of 256, how many weights have rows that are no
    multiple of that, by what they became.

    Raises StepError when nothing is of the type asked for, or of one in its stead.
    """
    asked = TYPES[file_type(reader)]
    types = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    if not types[asked.weights] and (not asked.superblocks or not types.keys() - _UNTOUCHED):
        raise StepError(
            f"not one tensor of the GGUF file is in {asked.weights}", "The model's rows may not divide into blocks."
        )
    odd = (tensor for tensor in reader.tensors if len(tensor.shape) > 1 and int(tensor.shape[0]) % 256)
    fallen_back = Counter(tensor.tensor_type.name for tensor in odd if asked.superblocks)
    bits = 8 * sum(int(tensor.n_bytes) for tensor in reader.tensors)
    return {
        "tensors": len(reader.tensors),
        "tensors_as_asked": types[asked.weights],
        "tensor_types": dict(sorted(types.items())),
        "tensors_fallen_back": dict(sorted(fallen_back.items())),
        "bits_per_weight": bits / sum(int(tensor.n_elements) for tensor in reader.tensors),
    }
