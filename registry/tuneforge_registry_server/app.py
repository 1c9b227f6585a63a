"""The routes of the Hub that its clients use, each with the right it takes.

Source: huggingface_hub 2.4 (hf_api.py, file_download.py, _commit_api.py, lfs.py) and https://huggingface.co/docs/hub/api.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tuneforge_registry import Registry, RegistryError
from tuneforge_registry_server.addresses import UPLOADS, VALIDATE, AsSent
from tuneforge_registry_server.door import Door
from tuneforge_registry_server.errors import HubError
from tuneforge_registry_server.gguf import Gguf
from tuneforge_registry_server.reading import Reading
from tuneforge_registry_server.repositories import Kinds, Repositories
from tuneforge_registry_server.tokens import Tokens
from tuneforge_registry_server.uploads import Uploads
from tuneforge_registry_server.writing import Writing
from tuneforge_registry_server.xet import Xet

Endpoint = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Terms:
    """On what terms a registry is served.

    Without `tokens` everybody who reaches the server may do everything, and it answers only to the names in `hosts`.
    `read_only` refuses what changes something, whoever asks; `allow_pickle` are the paths of files that may be pickles.
    `say` is given a line a request.
    """

    tokens: Tokens | None = None
    read_only: bool = False
    allow_pickle: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    say: Callable[[str], None] = print


def application(registry: Registry, kinds: Kinds, terms: Terms) -> ASGIApp:
    """An ASGI application that serves a registry."""
    repositories = Repositories(registry, kinds)
    reading, gguf = Reading(repositories), Gguf(repositories)
    uploads, xet = Uploads(repositories), Xet(repositories)
    writing = Writing(repositories, terms.allow_pickle)
    api, git = "/api/{types:types}/{id:repository}", "/{id:repository}.git/info/lfs/objects"
    routes = [
        _reads("/health", _health),
        _reads("/api/whoami-v2", _who),
        _writes("/api/repos/create", writing.create),
        _writes("/api/repos/delete", writing.delete, "DELETE"),
        _writes("/api/repos/move", writing.move),
        _reads(VALIDATE, writing.validate, "POST"),
        _reads("/api/{types:types}", reading.listing),
        _reads(f"{api}/revision/{{revision}}", reading.repository),
        _reads(f"{api}/tree/{{revision}}", reading.tree),
        _reads(f"{api}/tree/{{revision}}/{{path:path}}", reading.tree),
        _reads(f"{api}/paths-info/{{revision}}", reading.paths, "POST"),
        _reads(f"{api}/refs", reading.refs),
        _reads(f"{api}/commits/{{revision}}", reading.commits),
        _reads(f"{api}/auth-check", reading.repository),
        _writes(f"{api}/auth-check/write", reading.repository, "GET"),
        _writes(f"{api}/preupload/{{revision}}", writing.preupload),
        _writes(f"{api}/commit/{{revision}}", writing.commit),
        _writes(f"{api}/branch/{{branch}}", writing.add_branch),
        _writes(f"{api}/branch/{{branch}}", writing.remove_branch, "DELETE"),
        _writes(f"{api}/tag/{{revision}}", writing.add_tag),
        _writes(f"{api}/tag/{{tag}}", writing.remove_tag, "DELETE"),
        _reads(api, reading.repository),
        _reads("/v2/{id:repository}/manifests/{tag}", gguf.manifest),
        _writes(f"{api}/xet-write-token/{{revision}}", xet.token, "GET"),
        _writes(f"{UPLOADS}lfs/{{oid}}", uploads.receive, "PUT"),
        _writes(f"{UPLOADS}xet/{{session}}/v1/chunks/{{prefix}}/{{hash}}", xet.chunk, "GET"),
        _writes(f"{UPLOADS}xet/{{session}}/v1/xorbs/default/{{hash}}", xet.xorb),
        _writes(f"{UPLOADS}xet/{{session}}/v1/shards", xet.shard),
    ]
    for prefix in ("/{types:datasets}", ""):
        routes += [
            _reads(f"{prefix}/{{id:repository}}/resolve/{{revision}}/{{path:path}}", reading.file),
            _reads(f"{prefix}/{{id:repository}}/raw/{{revision}}/{{path:path}}", reading.file),
            _writes(f"{prefix}{git}/batch", uploads.batch),
            _writes(f"{prefix}{git}/{{oid}}/verify", uploads.verify),
        ]

    async def damaged(request: Request, error: Exception) -> Response:
        """What is damaged is told without where the registry lies on this machine."""
        assert isinstance(error, RegistryError)
        told = f"{error.problem}: {error.fix}".replace(str(registry.home), "the registry")
        return HubError(500, told).response()

    app = Starlette(
        routes=routes,
        exception_handlers={
            HubError: _refuse,
            RegistryError: damaged,
            OSError: _system,
            HTTPException: _unknown,
            ClientDisconnect: _gone,
        },
    )
    app.router.redirect_slashes = False
    return AsSent(Door(app, terms.tokens, terms.read_only, terms.hosts, terms.say))


def _reads(path: str, endpoint: Endpoint, method: str = "GET") -> Route:
    return Route(path, endpoint, methods=[method])


def _writes(path: str, endpoint: Endpoint, method: str = "POST") -> Route:
    async def allowed(request: Request) -> Response:
        if request.scope["right"] != "write":
            raise HubError(403, "this token may only read, or the registry is served read-only")
        if iscoroutinefunction(endpoint):
            found: Response = await endpoint(request)
            return found
        return await run_in_threadpool(cast(Callable[[Request], Response], endpoint), request)

    return Route(path, allowed, methods=[method])


async def _health(request: Request) -> Response:
    return PlainTextResponse("ok")


async def _who(request: Request) -> Response:
    """Who the client is, and what the token allows."""
    name = request.scope["who"]
    known = name if name != "-" else "anyone"
    token = {"displayName": known, "role": request.scope["right"]}
    document: dict[str, Any] = {
        "type": "user",
        "id": known,
        "name": known,
        "fullname": known,
        "isPro": False,
        "orgs": [],
    }
    return JSONResponse({**document, "auth": {"type": "access_token", "accessToken": token}})


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    return error.response()


async def _system(request: Request, error: Exception) -> Response:
    """What the system refuses is told by what it is, without the paths of this machine."""
    assert isinstance(error, OSError)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            told = HubError(507, "the registry's disk is full: free space, then do it again")
        case errno.EROFS | errno.EACCES | errno.EPERM:
            told = HubError(403, "the registry cannot be written to: its disk or folder is read-only")
        case errno.ENAMETOOLONG | errno.EINVAL:
            told = HubError(400, "a name in it is too long, or none that a file can have")
        case _:
            raise error
    return told.response()


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.scope['path']}"
    return HubError(error.status_code, f"{what} is not offered by this server: {error.detail}").response()


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it
