"""No option that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from tuneforge.hints import blocks_in, tag
from tuneforge.plugins import Plugins


def _options(block: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, info in block.model_fields.items():
        # The word that chooses a block is read when it is chosen.
        if name != "type" or not tag(block):
            yield f"{block.__module__}.{block.__qualname__}", name
        for inner in blocks_in(info.annotation):
            yield from _options(inner)


def test_every_option_is_read(options_read: set[tuple[str, str]]) -> None:
    unread = sorted({option for method in Plugins() for option in _options(method)} - options_read)
    assert not unread, "set by people, validated, documented, and read by no run"
