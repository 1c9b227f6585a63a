"""How a form of a model is stored, by what its own files claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tuneforge.artifacts import Tensor

_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "I8": 8}


@dataclass(frozen=True)
class Form:
    """`name` as people know the format, `bits` a weight by what the files claim, `measured` by what they hold.

    What is measured are all weights but the embeddings, which few formats round, scales and offsets included.
    `computed` is the type that it was asked in; `tokenizer` llama.cpp's name for the kind, where that is the runtime.
    """

    name: str
    runtime: str
    computed: str
    tokenizer: str
    bits: float
    measured: float

    def told(self) -> dict[str, Any]:
        return asdict(self) | {"measured": round(self.measured, 3)}


def claimed(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[str, float]:
    """Name and bits a weight of a model in the layout of transformers, by its config.json and safetensors headers."""
    settings = config.get("quantization_config")
    if not settings:
        sizes: Counter[str] = Counter()
        for tensor in tensors.values():
            sizes[tensor.dtype] += tensor.bytes
        dtype = max(sizes, key=lambda name: sizes[name], default="F32")
        return {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(dtype, dtype), _BITS.get(dtype, 8)
    method = str(settings.get("quant_method", "bitsandbytes"))
    bits = _claimed_bits(settings)
    return f"{method}, {bits:g} bits", bits


def _claimed_bits(settings: Mapping[str, Any]) -> float:
    groups = settings.get("config_groups")
    if groups:
        return min(float((group.get("weights") or {}).get("num_bits", 16)) for group in groups.values())
    if settings.get("load_in_4bit") or settings.get("_load_in_4bit"):
        return 4
    if settings.get("load_in_8bit") or settings.get("_load_in_8bit"):
        return 8
    return float(settings.get("bits") or settings.get("w_bit") or 16)


def claimed_by_gguf(file_type: str) -> float:
    """Bits a weight of a GGUF file by the name of its file type, such as `MOSTLY_Q4_K_M` or `ALL_F32`."""
    word = file_type.split("_")[1]
    if word in ("F32", "F16", "BF16"):
        return float(word[-2:])
    if word.startswith("MXFP"):
        return float(word[4:])
    return float(next(letter for letter in word if letter.isdigit()))


def allowed(bits: float) -> float:
    """The most bits a weight that a format may take, scales and the layers that it leaves as they are included.

    q8_0 holds 8.5, q4_k 4.5, q2_k 2.6, gptq of 4 bits in groups of 32 some 4.7; mixed types hold more, and rows that do
    not divide into blocks of 256 get llama.cpp's next larger type (q8_0 for q6_k, iq4_nl of 4.5 bits for q2_k). A
    model that was left in 16 bits is above it in any format, and so is one in 8 bits of which a quarter was.
    """
    return 10 if bits == 8 else 1.5 * bits + 1.6
