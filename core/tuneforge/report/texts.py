"""Texts of others made fit to be shown: whatever a record, a report or an answer may hold."""

from __future__ import annotations

import json
import re
from typing import Any

# C0 controls but tab and newline, DEL and C1 controls, lone surrogates: a terminal obeys some, UTF-8 refuses others.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def shown(text: str) -> str:
    """A text without what cannot be printed: a control character as its picture, a lone surrogate as U+FFFD."""
    return _UNSHOWN.sub(_picture, text.replace("\r\n", "\n")) if _UNSHOWN.search(text) else text


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


def all_shown(value: Any) -> Any:
    """The same of every text in a JSON value, names included."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {shown(str(name)): all_shown(inner) for name, inner in value.items()}
    return [all_shown(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def as_text(value: Any) -> str:
    """Any JSON value as a text to be shown: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut(text: str, most: int) -> str:
    """The beginning of a long text, with a mark that there is more."""
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
