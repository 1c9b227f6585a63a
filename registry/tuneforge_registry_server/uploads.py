"""Large files on their way in: hashed while they are received, kept apart until a commit takes them.

What is received waits in the registry's scratch, one folder an object, so that an upload whose commit never comes is
gc's to take when it is old, and one that is tried again has not to be sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tuneforge_registry import FileEntry, Registry, blobs, files
from tuneforge_registry.manifests import is_digest
from tuneforge_registry_server.addresses import UPLOADS, part, repository_of, strings
from tuneforge_registry_server.errors import HubError, bad
from tuneforge_registry_server.reading import base
from tuneforge_registry_server.repositories import Repositories
from tuneforge_registry_server.requests import body, text_of, whole_of

_OBJECTS = 1000
"""Objects that one batch may ask about."""
_LASTS = 24 * 3600
"""Seconds for which a file may be sent to the address that a batch has given."""
_BUFFER = 1 << 20
SESSION = "upload-xet-"
"""How the names of the folders begin in which pieces of files wait to be put together."""


class Uploads:
    """Objects by their sha256, as Git LFS has them (github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md)."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._registry = repositories.registry
        self._secret = secrets.token_bytes(32)

    async def batch(self, request: Request) -> Response:
        """Where to send which objects; those that are here already need not be sent."""
        asked = (await body(request)).json()
        if text_of(asked, "operation") != "upload":
            raise bad("only uploads are offered here: files are downloaded from /resolve/")
        transfers = strings(asked.get("transfers", ["basic"]))
        if "basic" not in transfers or asked.get("hash_algo", "sha256") != "sha256":
            raise bad("only the transfer `basic` with sha256 is offered")
        objects = asked.get("objects")
        if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
            raise bad("objects must be a list of objects")
        if len(objects) > _OBJECTS:
            raise HubError(413, f"a batch has {_OBJECTS} objects at most")
        wanted = [FileEntry(_digest_of(one), whole_of(one, "size")) for one in objects]
        return await run_in_threadpool(self._batch, request, wanted)

    def _batch(self, request: Request, wanted: list[FileEntry]) -> Response:
        self._repositories.find(*repository_of(request))
        told = []
        for entry in wanted:
            document: dict[str, Any] = {"oid": entry.sha256, "size": entry.size}
            if not holds(self._registry, entry):
                objects = request.scope["path"].removesuffix("/batch")
                document["actions"] = {
                    "upload": {"href": self._signed(f"{base(request)}{UPLOADS}lfs/{entry.sha256}", entry)},
                    "verify": {"href": f"{base(request)}{objects}/{entry.sha256}/verify"},
                }
            told.append(document)
        return JSONResponse({"transfer": "basic", "objects": told}, media_type="application/vnd.git-lfs+json")

    async def receive(self, request: Request) -> Response:
        """Takes an object. The client shows no token here, as the Hub's storage wants none: the address is signed."""
        entry = self._unsigned(request)
        declared = request.headers.get("content-length")
        if declared is not None and declared != str(entry.size):
            raise bad(f"{declared} bytes are announced, {entry.size} were agreed on")
        # A lock belongs to the thread that takes it: workspaces are opened and closed in that of the loop.
        with self._registry.workspace() as room:
            found = await received(request, room / "part", entry.size)
            if found != entry:
                problem = f"{found.size} bytes with the sha256 {found.sha256} came for"
                raise bad(f"{problem} {entry.size} bytes with {entry.sha256}")
            await run_in_threadpool(keep, self._registry, room / "part", entry)
        return Response(status_code=200, headers={"ETag": f'"{entry.sha256}"'})

    async def verify(self, request: Request) -> Response:
        asked = (await body(request)).json()
        entry = FileEntry(_digest_of(asked), whole_of(asked, "size"))
        if part(request, "oid") != entry.sha256 or not await run_in_threadpool(holds, self._registry, entry):
            raise HubError(404, "the object is not here: send it again")
        return JSONResponse({})

    def _signed(self, there: str, entry: FileEntry) -> str:
        ends = int(time.time()) + _LASTS
        return f"{there}?size={entry.size}&ends={ends}&signed={self._signature(entry, ends)}"

    def _unsigned(self, request: Request) -> FileEntry:
        query = request.query_params
        size, ends = query.get("size", ""), query.get("ends", "")
        oid = part(request, "oid")
        if not (is_digest(oid) and decimal(size) and decimal(ends)):
            raise HubError(403, "the address to send a file to is not one of this server's")
        entry = FileEntry(oid, int(size))
        shown = query.get("signed", "").encode("utf-8", "replace")
        if not hmac.compare_digest(shown, self._signature(entry, int(ends)).encode()) or time.time() > int(ends):
            raise HubError(403, "the address to send a file to has expired, or is not one of this server's: ask again")
        return entry

    def _signature(self, entry: FileEntry, ends: int) -> str:
        return hmac.new(self._secret, f"{entry.sha256} {entry.size} {ends}".encode(), "sha256").hexdigest()


async def received(request: Request, target: Path, most: int) -> FileEntry:
    """Writes the body of a request to a new file, on disk, and tells what it is. HubError beyond `most` bytes.

    What has come is hashed and written by a thread while more of it comes.
    """
    taken = hashlib.sha256()
    size = 0
    with target.open("xb") as file:

        def take(content: bytearray) -> None:
            file.write(content)
            taken.update(content)

        pending, taking = bytearray(), asyncio.create_task(run_in_threadpool(take, bytearray()))
        try:
            async for piece in request.stream():
                pending += piece
                size += len(piece)
                if size > most:
                    raise HubError(413, f"more than the {most} bytes that were agreed on")
                if len(pending) >= _BUFFER:
                    await taking
                    taking = asyncio.create_task(run_in_threadpool(take, pending))
                    pending = bytearray()
        finally:
            await taking  # or it would write to a file that is closed
        await run_in_threadpool(take, pending)
        await run_in_threadpool(settle, file)
    return FileEntry(taken.hexdigest(), size)


def settle(file: Any) -> None:
    """Brings a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def keep(registry: Registry, part: Path, entry: FileEntry) -> None:
    """Puts a whole file, whose digest is known to be right, where it waits for its commit."""
    place = waiting(registry, entry.sha256)
    part.chmod(0o444)
    registry.scratch(_key(entry.sha256))
    part.replace(place)
    files.sync_folder(place.parent)


def waiting(registry: Registry, sha256: str) -> Path:
    return registry.home / "scratch" / _key(sha256) / "whole"


def holds(registry: Registry, entry: FileEntry) -> bool:
    """Whether an object is here, among the blobs or waiting. One that waits is noted as wanted, for gc to see."""
    if blobs.holds(registry.home, entry):
        return True
    place = waiting(registry, entry.sha256)
    try:
        return place.stat().st_size == entry.size and files.touch(place)
    except FileNotFoundError:
        return False


def size_of(registry: Registry, sha256: str) -> int | None:
    """How many bytes an object has; None if it is not here."""
    # What waits has just been hashed; a blob may have lost bytes, which is why it is sent again.
    for place in (waiting(registry, sha256), blobs.location(registry.home, sha256)):
        try:
            return place.stat().st_size
        except FileNotFoundError:
            continue
    return None


def release(registry: Registry, sha256: str) -> None:
    """Removes what waited, once it is committed, and what it was made of. What is in use again stays for gc."""
    folder = waiting(registry, sha256).parent
    try:
        session = (folder / "from").read_text(encoding="ascii")
    except FileNotFoundError:
        session = ""
    if session:
        shutil.rmtree(registry.home / "scratch" / f"{SESSION}{session}", ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _key(sha256: str) -> str:
    return f"upload-{sha256}"


def _digest_of(asked: dict[str, Any]) -> str:
    oid = text_of(asked, "oid")
    if not is_digest(oid):
        raise bad("oid must be a sha256 of 64 hexadecimal digits")
    return oid


def decimal(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
