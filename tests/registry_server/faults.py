"""The faults of the store's tests, with uploads among the operations: the server's application, called in the process
that is killed, so that a kill falls between any two changes that it makes to the disk.

python -m tests.registry_server.faults HOME KILLS
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.registry import faults
from tuneforge_registry import Registry
from tuneforge_registry_server import Kinds, Terms, application

KINDS = Kinds(frozenset(), lambda folder, type, before: ("model", None))


def upload(registry: Registry, chance: random.Random, acknowledge: faults.Acknowledge) -> None:
    """A repository that all others commit to too: a large file, sent before, and a small one within the commit."""
    app = application(registry, KINDS, Terms(say=lambda line: None))
    name = f"uploaded-{chance.randint(0, 3)}"
    large, small = chance.randbytes(6000), f"{chance.random()}".encode()

    async def ask(method: str, address: str, body: bytes, type: str = "application/json") -> Any:
        return await _ask(app, method, address, body, {"content-type": type, "host": "localhost"})

    async def everything() -> dict[str, Any]:
        await ask("POST", "/api/repos/create", json.dumps({"name": name, "exist_ok": True}).encode())
        wanted = {"oid": hashlib.sha256(large).hexdigest(), "size": len(large)}
        asked = {"operation": "upload", "transfers": ["basic"], "objects": [wanted]}
        told = await ask("POST", f"/{name}.git/info/lfs/objects/batch", json.dumps(asked).encode())
        for action in [told["objects"][0]["actions"]["upload"]] if "actions" in told["objects"][0] else []:
            await ask("PUT", action["href"], large)
        lines = [
            {"key": "header", "value": {"summary": "one"}},
            {"key": "lfsFile", "value": {"path": "weights", "algo": "sha256"} | wanted},
            {"key": "file", "value": {"path": "config.json", "content": small.hex(), "encoding": "utf-8"}},
        ]
        commit = b"\n".join(json.dumps(line).encode() for line in lines)
        done: dict[str, Any] = await ask("POST", f"/api/models/{name}/commit/main", commit, "application/x-ndjson")
        return done

    done = asyncio.run(everything())
    for number, digest in registry.names()[name].versions.items():
        if digest.startswith(done["commitOid"]):
            acknowledge({"name": name, "version": number, "digest": digest})


async def _ask(app: Any, method: str, address: str, body: bytes, headers: Mapping[str, str]) -> Any:
    """What the application answers; AssertionError if it refuses."""
    url = urlsplit(address)
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": url.path,
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
    }
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if pending:
            return pending.pop()
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    status, content = sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])
    assert status < 300 or status == 409, (method, url.path, status, content)
    return json.loads(content or b"{}") if content[:1] in (b"{", b"") else None


faults.OPERATIONS["upload"] = upload

if __name__ == "__main__":
    os.fsync = lambda fd: None
    faults.main(Path(sys.argv[1]), int(sys.argv[2]))
