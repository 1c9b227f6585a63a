"""The tokens of a tokenizer, read from its tokenizer.json without loading it."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any


def same(one: Path, other: Path) -> bool:
    """Whether the tokenizers of two folders give every token the same id."""
    files = one / "tokenizer.json", other / "tokenizer.json"
    return filecmp.cmp(*files, shallow=False) or tokens(one) == tokens(other)


def aligned(models: Sequence[tuple[Path, Mapping[str, Any]]]) -> bool:
    """Whether rows of embeddings are of the same tokens in all models, and as many: for each its tokenizer's folder and
    its config.json."""
    (first, config), *others = models
    return all(same(first, other) and config.get("vocab_size") == its.get("vocab_size") for other, its in others)


def tokens(folder: Path) -> dict[str, int]:
    """Every token of a folder's tokenizer with its id, added tokens included."""
    file = folder / "tokenizer.json"
    return dict(_pairs(_read(file, file.stat().st_mtime_ns)))


def together(folders: Sequence[Path]) -> int:
    """How many tokens the tokenizers of several folders have together."""
    return len({token for folder in folders for token in tokens(folder)})


@lru_cache(maxsize=8)
def _read(file: Path, changed: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _pairs(content: dict[str, Any]) -> Iterator[tuple[str, int]]:
    vocabulary = content["model"].get("vocab", {})
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    else:  # Unigram: [token, score] in the order of ids
        yield from ((entry[0], number) for number, entry in enumerate(vocabulary))
    yield from ((entry["content"], entry["id"]) for entry in content.get("added_tokens", ()))
