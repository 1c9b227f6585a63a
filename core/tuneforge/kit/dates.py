"""Templates that tell the model today's date would make tomorrow's result another one: there the date is fixed."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

_TODAY = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_FIXED = datetime(2024, 7, 26)  # the one that Llama 3's template falls back to


@lru_cache
def without_today(template: str) -> str:
    """The template with the fixed date in place of today's."""
    return _TODAY.sub(lambda match: repr(_FIXED.strftime(match[2])), template)
