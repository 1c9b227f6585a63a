"""The files of a model's folder beside its weights, written so that equal models give equal bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneforge.artifacts import read_json

# What belongs to a tokenizer besides tokenizer.json: readers such as llama.cpp's converter look for the older files.
_TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)

# Where and with what a file was written, and under which flags: nothing a reader needs, and never twice the same.
_PASSING = ("transformers_version", "_name_or_path", "name_or_path", "is_local", "local_files_only", "peft_version")


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copies a tokenizer with its chat template from one folder into another."""
    for path in (path for pattern in _TOKENIZER_FILES for path in source.glob(pattern)):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


def stored_stops(folder: Path) -> list[int]:
    """The stop tokens of a model by its generation_config.json; without that, by its config.json."""
    path = folder / "generation_config.json"
    own = read_json(path if path.exists() else folder / "config.json").get("eos_token_id")
    return own if isinstance(own, list) else [] if own is None else [own]


def clean_json(path: Path) -> None:
    """Writes a JSON file anew as `write_json` does, if it is there."""
    if path.exists():
        write_json(path, json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes settings without what tells where and with what they were written."""
    kept = {name: value for name, value in content.items() if name not in _PASSING}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
