"""The weights of a GGUF file against those they were made from, as far as each type can hold them."""

from __future__ import annotations

from collections.abc import Callable

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Quant

from tuneforge import StepError

Rows = Callable[[int, int], npt.NDArray[np.float32]]
"""The rows of a weight from one index to another, in float32."""

# How far a weight may be from the model's: as a share of the largest of its 32 neighbours, and absolutely where those
# are so small that the type's own scale is no longer exact.
_SINGLE = {
    Quant.F32: (0.0, 0.0),
    Quant.F16: (2**-11, 2**-25),
    Quant.BF16: (2**-8, 0.0),
    Quant.Q8_0: (0.005, 4e-6),
}
# The rest choose scales by least squares, by importance where it is given: a single weight may be far off. How far a
# row may be, as the root mean square of its errors over that of its weights: half more than was measured at worst on
# normal, heavy-tailed, shifted, sparse and trained weights, with and without importance of six orders of magnitude. A
# row that is another's is off by 1.4. What is smaller than the second number, the scales of superblocks cannot tell.
_ROW = {
    Quant.Q6_K: (0.13, 2e-4),
    Quant.Q5_K: (0.14, 2e-4),
    Quant.Q5_1: (0.12, 4e-6),
    Quant.Q5_0: (0.18, 4e-6),
    Quant.Q4_K: (0.29, 2e-4),
    Quant.Q4_1: (0.25, 4e-6),
    Quant.Q4_0: (0.45, 4e-6),
    Quant.IQ4_NL: (0.37, 4e-6),
    Quant.IQ4_XS: (0.37, 2e-4),
    Quant.Q3_K: (0.4, 2e-4),
    Quant.Q2_K: (1.1, 2e-4),
}
_BLOCK = 32
_CHUNK = 1 << 22
_TINY = float(np.finfo(np.float32).tiny)


def bound(tensor: gguf.ReaderTensor) -> float:
    """The largest error that the tensor's type explains."""
    return float((_SINGLE.get(tensor.tensor_type) or _ROW[tensor.tensor_type])[0])


def shape_of(tensor: gguf.ReaderTensor) -> tuple[int, ...]:
    """As numpy and torch have it: rows first."""
    return tuple(int(length) for length in reversed(tensor.shape))


def rows_of(tensor: gguf.ReaderTensor) -> Rows:
    """The rows of a tensor of a file."""
    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    return lambda start, stop: np.asarray(gguf.quants.dequantize(rows[start:stop], tensor.tensor_type), np.float32)


def error(tensor: gguf.ReaderTensor, want: Rows | None) -> float:
    """The largest error of a tensor, to be compared with `bound`; infinite without the like to compare.

    Of types in `_SINGLE` it is a weight's, as a share of its block's largest; of others a row's, as a share of its root
    mean square. Raises StepError for numbers that are not finite.
    """
    columns, got = shape_of(tensor)[-1], rows_of(tensor)
    count = tensor.n_elements // columns
    worst = 0.0 if want is not None else np.inf
    step = max(1, _CHUNK // columns)
    for start in range(0, count, step):
        found = got(start, min(start + step, count))
        if not np.isfinite(found).all():
            raise StepError(
                f"{tensor.name} of the GGUF file holds numbers that are not finite",
                "Weights beyond 65504 do not fit f16: take bf16.",
            )
        if want is not None:
            worst = max(worst, _off(tensor.tensor_type, found, want(start, min(start + step, count))))
    return worst


def _off(kind: Quant, got: npt.NDArray[np.float32], want: npt.NDArray[np.float32]) -> float:
    columns = want.shape[-1]
    _, floor = _SINGLE.get(kind) or _ROW[kind]
    off = np.maximum(np.abs(got - want) - floor, 0)
    if kind in _SINGLE:
        width = _BLOCK if columns % _BLOCK == 0 else columns
        largest = np.abs(want).reshape(-1, width).max(axis=1)
        return float((off.reshape(-1, width).max(axis=1) / np.maximum(largest, _TINY)).max())
    size = np.sqrt(np.square(want, dtype=np.float64).sum(axis=-1))
    return float((np.sqrt(np.square(off, dtype=np.float64).sum(axis=-1)) / np.maximum(size, _TINY)).max())
