"""Whether a safetensors file is one: an 8-byte length, a JSON header of that length, tensors end to end.

The rules are those of the format (https://github.com/huggingface/safetensors#format): offsets lie within the file,
leave no holes and do not overlap, so that no byte is hidden and none is read twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_HEADER = 32 << 20
"""Bytes of a header: a quarter of a million tensors. The format allows 100 MB, which take gigabytes to read."""

_BITS = (
    {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
    | dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
    | dict.fromkeys(("I16", "U16", "F16", "BF16"), 16)
    | dict.fromkeys(("I32", "U32", "F32"), 32)
    | dict.fromkeys(("I64", "U64", "F64", "C64"), 64)
)
"""Of a type that is not here only the offsets are looked at: there may be new ones."""


def problem(file: Path) -> str | None:
    """What is wrong with the safetensors file, as words that go after its name; None if it is whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            return "has a header that is longer than the file"
        if length > _HEADER:
            return f"has a header of {length} bytes, longer than any model needs"
        text = stream.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return f"has a header that is not JSON ({error})" if text[:1] == b"{" else "has a header that is not JSON"
    if not isinstance(header, dict) or text[:1] != b"{":
        return "has a header that is not a JSON object"
    return _told(header.pop("__metadata__", None)) or _laid_out(header, size - 8 - length)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _told(metadata: Any) -> str | None:
    if metadata is None:
        return None
    good = isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    return None if good else "has a header whose __metadata__ is not words by words"


def _laid_out(tensors: dict[str, Any], room: int) -> str | None:
    spans = []
    for name, told in tensors.items():
        begin, end, bits = _span(told)
        if end < begin or end > room:
            return f"has a tensor {name[:80]!r} with offsets outside the file, or none"
        if bits is not None and bits != 8 * (end - begin):
            return f"has a tensor {name[:80]!r} whose shape and type do not fill its bytes"
        spans.append((begin, end))
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            return "has tensors that overlap" if begin < reached else "has bytes that belong to no tensor"
        reached = end
    return None if reached == room else "has bytes that belong to no tensor"


def _span(told: Any) -> tuple[int, int, int | None]:
    """Where a tensor begins and ends, and how many bits its shape and type make; an end before 0 if it is not told."""
    if not isinstance(told, dict):
        return 0, -1, None
    shape, offsets, dtype = _counts(told.get("shape")), _counts(told.get("data_offsets")), told.get("dtype")
    if shape is None or offsets is None or len(offsets) != 2 or not isinstance(dtype, str):
        return 0, -1, None
    bits = _BITS.get(dtype)
    if bits is not None:
        for length in shape:
            bits = min(bits * length, 1 << 80)  # nobody has so many: numbers stay short, however long the shape
    return offsets[0], offsets[1], bits


def _counts(found: Any) -> list[int] | None:
    good = isinstance(found, list) and all(type(count) is int and 0 <= count < 1 << 63 for count in found)
    return found if good else None
