"""Reads what Weights & Biases writes offline: its own messages, in a log of LevelDB's format.

wandb itself reads it in Go alone, so the container is taken apart here: after a head of 7 bytes come blocks of 32 KiB,
with pieces of messages that have 7 bytes before them: a checksum (4), a length (2), and a kind (1), which is whole,
first, middle or last. https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEAD = 1 << 15, 7
_WHOLE, _LAST = 1, 4


def messages(path: Path) -> Iterator[bytes]:
    """Every message that is there whole."""
    data = path.read_bytes()
    at, message = _HEAD, b""
    while at + _HEAD <= len(data):
        if _BLOCK - at % _BLOCK < _HEAD:
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if kind == 0:
            return
        message += data[at + _HEAD : at + _HEAD + length]
        at += _HEAD + length
        if kind in (_WHOLE, _LAST):
            yield message
            message = b""


def read(folder: Path) -> dict[str, Any]:
    """A run: its head, config, history, summary, and exit code once it has one."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    found: dict[str, Any] = {"run": None, "history": [], "summary": {}, "config": {}, "exit": None}
    for data in messages(file):
        record = Record.FromString(data)
        match record.WhichOneof("record_type"):
            case "run":
                found["run"] = record.run
                found["config"] |= _items(record.run.config.update)
            case "history":
                found["history"].append(_items(record.history.item))
            case "summary":
                found["summary"] |= _items(record.summary.update)
            case "exit":
                found["exit"] = record.exit.exit_code
    return found


def runs(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs that lie in a folder, by their names."""
    read_all = [read(each) for each in folder.glob("offline-run-*") if list(each.glob("*.wandb"))]
    return {found["run"].display_name: found for found in read_all if found["run"]}


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
