"""Numbers, times and sizes as people read them."""

from __future__ import annotations

import math
import sys
from typing import Any


def number(value: float) -> str:
    """Four digits that count; whole numbers whole: `217,101`, `0.4776`, `1.1e-06`."""
    if isinstance(value, bool) or not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.3e}"
    if value == int(value):
        return str(int(value))
    return f"{value:.4g}"


def change(value: float) -> str:
    """A difference with its sign."""
    sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else "\N{PLUS-MINUS SIGN}"
    return sign + number(abs(value))


def duration(seconds: float) -> str:
    """`40 ms`, `0.9 s`, `1 min 29 s`, `2 h 5 min`."""
    if 0 < seconds < 0.095:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def size(count: float) -> str:
    """Bytes in decimal units: `4.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def share(part: float) -> str:
    """A share of a whole: `12 %`, `0.3 %`."""
    percent = 100 * part
    return f"{percent:.0f} %" if percent >= 9.95 or percent == 0 else f"{percent:.1g} %"


def words(name: str) -> str:
    """A name as code has it, as a text has it: `train_loss` is `train loss`."""
    return name.replace("_", " ")


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
