"""Bodies of requests: bounded, and checked before they are believed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from tuneforge_registry_server.errors import HubError, bad

_LARGEST = 16 << 20
"""Bytes of a body that is not made of files."""


@dataclass(frozen=True)
class Body:
    content: bytes

    def text(self) -> str:
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError:
            raise bad("the body is not UTF-8") from None

    def json(self) -> dict[str, Any]:
        return read_object(self.content)


async def body(request: Request, most: int = _LARGEST) -> Body:
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > most:
            raise HubError(413, f"the body is longer than {most} bytes")
    return Body(bytes(content))


def read_object(content: bytes | bytearray) -> dict[str, Any]:
    """A JSON object. HubError for anything else."""
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        raise bad("the body is not JSON") from None
    if not isinstance(found, dict):
        raise bad("the body is not a JSON object")
    return found


def text_of(found: dict[str, Any], key: str, *, default: str | None = None) -> str:
    """A text that an object must have, or may lack if there is a default."""
    value = found.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise bad(f"{key} must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise bad(f"{key} is not UTF-8") from None
    return value


def whole_of(found: dict[str, Any], key: str) -> int:
    """A number of bytes that an object must have."""
    value = found.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise bad(f"{key} must be a number of bytes")
    return value
