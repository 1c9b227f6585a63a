"""Records in answers: the first JSON object of a text, and whether two texts hold the same one."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any


def find_record(text: str) -> Any:
    """The first JSON object, or list of objects, of a text, to be compared with `==`; None if there is none.

    Keys have no order, 1 equals 1.0, and true is not 1. Empty ones do not count: they are mostly code.
    """
    for start in _STARTS.finditer(text):
        try:
            value, _ = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        items = value if isinstance(value, list) else [value]
        if all(isinstance(item, dict) for item in items):
            return value
    return None


def is_right(reference: str, answer: str) -> bool:
    """Whether an answer holds the record that its reference holds, or is the same text where that holds none."""
    record = find_record(reference)
    return reference == answer if record is None else bool(record == find_record(answer))


def _number(digits: str) -> tuple[str, Decimal]:
    # Python's own numbers would make true equal to 1, and long ones equal to their neighbours.
    return "number", Decimal(digits)


_STARTS = re.compile(r'\[(?=\s*\{\s*")|\{(?=\s*")')
"""Where a non-empty object, or a list that begins with one, may begin."""

_DECODER = json.JSONDecoder(parse_int=_number, parse_float=_number)
