"""The commands of a release's card, as a shell would read them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def commands(release: Path) -> list[list[str]]:
    """Every command of the card's shell blocks, in words; lines that go on are joined."""
    card = (release / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", card, re.S)
    return [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def options(words: list[str]) -> dict[str, list[str]]:
    """The options of a command, each with the words after it."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for word in words:
        if word.startswith("-"):
            name = word
            found[name] = []
        else:
            found[name].append(word)
    return found
