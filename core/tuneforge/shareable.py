"""A recipe's text as others may read it: without secrets, which are refused, and without places of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from .errors import Finding

_FIX = (
    "Take it out, and have it made invalid if others could read it: tokens belong in the environment (HF_TOKEN) or "
    "with the tool that asks for them (`hf auth login`)."
)
_KINDS = {
    "a token of the Hugging Face Hub": r"hf_[A-Za-z0-9]{16,}",
    "a token of GitHub": r"(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,}",
    "a token of GitLab": r"glpat-[\w-]{16,}",
    "a key of OpenAI or Anthropic": r"sk-(?=[\w-]*\d)[\w-]{20,}",
    "a key of AWS": r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    "a token of Slack": r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in a URL": r"(?<=://)[^\s/:@'\"]+:[^\s/@'\"$]+(?=@)",
}
_PATTERN = re.compile(
    "|".join(f"(?P<k{index}>(?<![A-Za-z0-9_-]){pattern})" for index, pattern in enumerate(_KINDS.values()))
)
_NAMED = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY)$")
_LONG = 12
"""Characters: a shorter value of such a variable may be an ordinary word."""

_ABSOLUTE = re.compile(
    r"(?<![\w:/.~\\-])(?:~[\w-]*/|/|[A-Za-z]:[\\/])(?:[^\s/\\'\",\[\]{}]+[\\/])+([^\s/\\'\",\[\]{}]*)"
)


def secrets_in(text: str, place: str, environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Findings on what looks like a secret, or is one of this process's environment; none says what it is.

    `place` is what the text is called; lines and columns are added where it has several lines.
    """
    variables = os.environ if environment is None else environment
    own = {value: name for name, value in variables.items() if _NAMED.search(name.upper()) and len(value) >= _LONG}
    for number, line in enumerate(text.splitlines(), 1):
        named = {found.start(): list(_KINDS)[int(str(found.lastgroup)[1:])] for found in _PATTERN.finditer(line)}
        named |= {line.index(value): f"the value of ${name}" for value, name in own.items() if value in line}
        for at, what in sorted(named.items()):
            where = f"{place}:{number}:{at + 1}" if "\n" in text else place
            yield Finding(f"{what} stands here, and recipes are kept and shown", _FIX, place=where)


def without_places(text: str) -> str:
    """The text with only the last part of each absolute path."""
    return _ABSOLUTE.sub(lambda found: f".../{found[1]}", text)
