"""A recipe's text as others may read it: without places of this machine."""

from __future__ import annotations

import re

_ABSOLUTE = re.compile(
    r"""(?<![\w:/.~\\-]) (?: ~[\w-]*/ | / | [A-Za-z]:[\\/] )  # where an absolute path begins
        (?: [^\s/\\'",\[\]{}]+ [\\/] )+ ( [^\s/\\'",\[\]{}]* )""",
    re.VERBOSE,
)


def without_places(text: str) -> str:
    """The text with only the last part of each absolute path."""
    return _ABSOLUTE.sub(lambda found: f".../{found[1]}", text)
