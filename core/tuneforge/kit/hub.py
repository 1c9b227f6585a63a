"""Names of the Hugging Face Hub, for options: without its client. What asks the Hub is in `hub_client`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A full commit, which never moves."""

CLIENT = "huggingface_hub>=1.31"
"""What reading from the Hub needs."""

RepoType = Literal["model", "dataset"]

_CALLED = re.compile(r"(?:\w*_)?(?:token|api_key|password|auth)", re.IGNORECASE)
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


def no_token(options: Any) -> Any:
    """Of a block of options as it is written, before it is checked: ValueError for a token in it, which it never tells.

    A recipe is kept, shown and published. For pydantic's `model_validator(mode="before")`.
    """
    if isinstance(options, Mapping):
        named = next((name for name in options if isinstance(name, str) and _CALLED.fullmatch(name)), None)
        if named or any(_TOKEN.search(text) for text in _texts(options)):
            what = f"it has no {named}" if named else "a token of the Hub stands in it"
            raise ValueError(f"{what}: the token comes from HF_TOKEN or `hf auth login`, and never from a recipe")
    return options


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
