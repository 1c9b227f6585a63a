"""Whether two models mean the same by a token, as far as that is known before they are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneforge import Facts


def same_vocabulary(one: Facts, other: Facts) -> bool:
    """False where two models are known to have different tokens; true where they have the same, or it is not known."""
    sizes = [given.model.config.get("vocab_size") for given in (one, other)]
    if None not in sizes and sizes[0] != sizes[1]:
        return False
    return same_tokens(one.tokenizer, other.tokenizer)


def same_tokens(one: Path | None, other: Path | None) -> bool:
    """False where the tokenizers in two folders are known to give other numbers to the same tokens.

    Their models may have outputs of different sizes: those of a family are often padded to what suits them.
    """
    files = [folder / "tokenizer.json" for folder in (one, other) if folder is not None]
    if one == other or len(files) < 2 or not all(file.exists() for file in files):
        return True
    contents = [file.read_bytes() for file in files]
    return contents[0] == contents[1] or _tokens(files[0]) == _tokens(files[1])


def _tokens(file: Path) -> tuple[Any, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    added = sorted((token["id"], token["content"]) for token in content.get("added_tokens", ()))
    return content.get("model", {}).get("vocab"), added
