"""Records in answers: the first JSON object of a text."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any


def find_record(text: str) -> Any:
    """The first JSON object, or list of objects, of a text, to be compared with `==`; None if there is none.

    Keys have no order, 1 equals 1.0, and true is not 1.
    """
    start = 0
    while True:
        start = min((place for place in (text.find("{", start), text.find("[", start)) if place >= 0), default=-1)
        if start < 0:
            return None
        try:
            value, _ = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) or (
            isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
        ):
            return value
        start += 1


def _number(digits: str) -> tuple[str, Decimal]:
    # Python's own numbers would make true equal to 1, and long ones equal to their neighbours.
    return "number", Decimal(digits)


_DECODER = json.JSONDecoder(parse_int=_number, parse_float=_number)
