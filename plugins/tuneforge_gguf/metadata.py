"""What a GGUF file tells of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf

from tuneforge import StepError

from .types import type_of


def read(file: Path) -> gguf.GGUFReader:
    """A GGUF file. Raises StepError when it is none, or is cut short."""
    try:
        return gguf.GGUFReader(file)
    except (ValueError, IndexError, KeyError) as error:
        raise StepError(f"the GGUF file cannot be read: {error}", "See whether the disk is full.") from error


def field(reader: gguf.GGUFReader, key: str) -> Any:
    """A value of the metadata; None where there is none."""
    found = reader.get_field(key)
    return found.contents() if found is not None else None


def file_type(reader: gguf.GGUFReader) -> str:
    """The type that was asked for, such as `q8_0`."""
    return type_of(field(reader, "general.file_type"))
