"""Exports as nobody would write them who means well, and what a registry holds before and after."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneforge_registry import archive

EMPTY = struct.pack("<Q", 2) + b"{}"
"""A safetensors file without tensors."""


def forged(told: Mapping[str, Any] | bytes, blobs: Mapping[str, bytes] | None = None) -> bytes:
    stream = io.BytesIO()
    writer = archive.Writer(stream, lambda count: None)
    writer.document(told if isinstance(told, bytes) else json.dumps(told).encode())
    for sha256, content in (blobs or {}).items():
        writer.blob(sha256, len(content), io.BytesIO(content))
    writer.end()
    return stream.getvalue()


def model(
    content: Mapping[str, bytes], base: str | None = None, kind: str = "model"
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What an export of these files tells, checked by nobody, and its blobs."""
    blobs = {hashlib.sha256(data).hexdigest(): data for data in content.values()}
    entries = {path: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for path, data in content.items()}
    fields = {"kind": kind, "base": base, "files": entries}
    text = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    told = {"format": 1, "asked": [digest], "artifacts": {digest: fields}, "ancestors": {}, "names": {}, "runs": {}}
    return told, dict(sorted(blobs.items()))


def snapshot(home: Path) -> dict[str, bytes]:
    """All that counts: the files of the registry, without locks, the index and marks of time."""
    rooms = ("blobs", "manifests", "ancestors", "refs", "runs", "steps", "tmp")
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for room in rooms
        for path in sorted((home / room).rglob("*"))
        if path.is_file()
    }
