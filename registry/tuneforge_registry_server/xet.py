"""Uploads by Xet, which huggingface_hub uses wherever its package hf_xet is installed, whatever a server offers.

A client gets an address of its own for each upload: it remembers what it has sent to an address, and would not send
that again to one that has long made files of it. Instead it is told what is here when it asks (see `chunks`). What it
sends is unpacked into whole files, which are checked by their sha256 and wait for their commit as if they had come by
LFS. Downloads have no need of Xet.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import shutil
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tuneforge_registry import FileEntry
from tuneforge_registry.manifests import is_digest
from tuneforge_registry_server import chunks, uploads, xorbs
from tuneforge_registry_server.addresses import UPLOADS, part, repository_of
from tuneforge_registry_server.errors import HubError, bad
from tuneforge_registry_server.reading import base
from tuneforge_registry_server.repositories import Repositories

_LASTS = 24 * 3600
_LARGEST = 96 << 20
"""Bytes of a xorb or shard; the client makes none above 64 MiB."""
_OPENED = 16
"""Xorbs of which it is known at a time where their chunks lie."""
_SESSION = re.compile(r"[0-9a-f]{32}")


class Xet:
    """Takes xorbs and shards."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._registry = repositories.registry
        self._secret = secrets.token_bytes(32)
        self._making = asyncio.Semaphore(2)  # what a large shard tells takes hundreds of megabytes

    def token(self, request: Request) -> Response:
        """Where to send an upload, and the token for it."""
        self._repositories.find(*repository_of(request))
        ends = int(time.time()) + _LASTS
        address = f"{base(request)}{UPLOADS}xet/{secrets.token_hex(16)}"
        token = f"{ends}.{self._signature(ends)}"
        headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(ends)}
        return JSONResponse({"casUrl": address, "accessToken": token, "exp": ends}, headers=headers)

    async def xorb(self, request: Request) -> Response:
        session, name = self._session(request), part(request, "hash")
        if not is_digest(name):
            raise bad("the hash of a xorb has 64 hexadecimal digits")
        # A lock belongs to the thread that takes it: workspaces are opened and closed in that of the loop.
        with self._registry.workspace() as room:
            await uploads.received(request, room / "xorb", _LARGEST)
            await run_in_threadpool((room / "xorb").replace, self._folder(session) / name)
        return JSONResponse({"was_inserted": True})

    async def shard(self, request: Request) -> Response:
        """Makes the files that a shard tells of, out of the xorbs that have come before."""
        session = self._session(request)
        with self._registry.workspace() as room:
            await uploads.received(request, room / "shard", _LARGEST)
            try:
                async with self._making:
                    await run_in_threadpool(self._make, session, room)
            except xorbs.BrokenError as error:
                raise bad(str(error)) from None
        return JSONResponse({"result": 1})

    def chunk(self, request: Request) -> Response:
        """Tells of a chunk, and of those around it, that they are here."""
        self._session(request)
        name = part(request, "hash")
        found = chunks.around(self._registry, name) if is_digest(name) else None
        if found is None:
            raise HubError(404, "no file that came by Xet has this chunk")
        return Response(found, media_type="application/octet-stream")

    def _make(self, session: str, room: Path) -> None:
        folder = self._folder(session)
        made = False
        opened = lru_cache(_OPENED)(xorbs.Xorb)
        shard = xorbs.read_shard((room / "shard").read_bytes())
        for described in shard.files:
            entry = FileEntry(described.sha256, described.bytes)
            if not uploads.holds(self._registry, entry):
                self._put_together(described, folder, opened, room / "part")
                made = True
                uploads.keep(self._registry, room / "part", entry)
                (uploads.waiting(self._registry, described.sha256).parent / "from").write_text(session)
            self._remember(described, shard)
        if not made:  # the client sends what it has before it asks whether that is new
            shutil.rmtree(folder, ignore_errors=True)

    def _put_together(
        self, described: xorbs.Described, folder: Path, opened: Callable[[Path], xorbs.Xorb], target: Path
    ) -> None:
        """Writes a file out of the xorbs that came, and of those that clients were told of."""
        taken = hashlib.sha256()
        with target.open("xb") as file:
            for segment in described.segments:
                if (folder / segment.xorb).exists():
                    pieces = opened(folder / segment.xorb).unpacked(segment)
                else:
                    pieces = chunks.unpacked(self._registry, segment)
                for content in pieces:
                    taken.update(content)
                    file.write(content)
            uploads.settle(file)
        if taken.hexdigest() != described.sha256:
            raise xorbs.BrokenError(f"a file has the sha256 {taken.hexdigest()}, not {described.sha256}")

    def _remember(self, described: xorbs.Described, shard: xorbs.Shard) -> None:
        """Notes of which chunks a file is made, as far as that is told. Wrong notes would only cost an upload."""
        made: list[xorbs.Chunk] = []
        for segment in described.segments:
            row = shard.xorbs.get(segment.xorb) or chunks.listed(self._registry, segment.xorb)
            if row is None or not segment.start < segment.end <= len(row):
                return
            made += row[segment.start : segment.end]
        if sum(chunk.bytes for chunk in made) == described.bytes:
            chunks.remember(self._registry, described.sha256, made)

    def _session(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        ends, _, signature = token.partition(".")
        if scheme.lower() != "bearer" or not uploads.decimal(ends) or int(ends) < time.time():
            raise HubError(401, "the token for this upload has expired, or is none of this server's")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._signature(int(ends)).encode()):
            raise HubError(401, "the token for this upload is none of this server's")
        session = part(request, "session")
        if not _SESSION.fullmatch(session):
            raise HubError(404, "no upload has this address")
        return session

    def _signature(self, ends: int) -> str:
        return hmac.new(self._secret, f"xet {ends}".encode(), "sha256").hexdigest()

    def _folder(self, session: str) -> Path:
        return self._registry.scratch(f"{uploads.SESSION}{session}")
