"""What can be changed: repositories, commits, branches and tags."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tuneforge_registry import FileEntry, RegistryError, blobs
from tuneforge_registry_server import checks, commits, documents, pointers
from tuneforge_registry_server.addresses import NONE, called, flag, part, repository_of
from tuneforge_registry_server.errors import HubError, bad, no_revision
from tuneforge_registry_server.reading import base
from tuneforge_registry_server.repositories import MAIN, Repositories, Repository, Type, check_name
from tuneforge_registry_server.requests import body, read_object, text_of, whole_of

_FILES = 1000
_BEFORE = (".parquet", ".arrow")
"""Files that are uploaded before their commit however small they are, as to the Hub: datasets keeps none until then."""
_AT_A_TIME = 8
"""Commits that are carried out, or wait for gc to end: fewer than there are threads, as who reads needs one too."""
_CARD = 4 << 20
"""Bytes of a request to look at a card, which anybody may make."""
_NO_REQUESTS = "there are no pull requests here: commit to a branch, and move an alias once it is looked at"


class Writing:
    """Answers to requests that change something."""

    def __init__(self, repositories: Repositories, allow_pickle: Collection[str]) -> None:
        self._repositories = repositories
        self._registry = repositories.registry
        self._allow_pickle = allow_pickle
        self._committing = commits.Committing(repositories, allow_pickle)
        self._carrying = asyncio.Semaphore(_AT_A_TIME)
        self._looking = asyncio.Semaphore(1)  # it takes a second of the worst cards, and asks for no token

    async def create(self, request: Request) -> Response:
        kind, name = _named(await _object(request))
        return await run_in_threadpool(self._create, request, kind, name)

    def _create(self, request: Request, kind: Type, name: str) -> Response:
        check_name(name)
        url = _address(request, kind, name)
        with pointers.alone(self._registry, name):
            there = self._repositories.look(name)
            if there is not None:
                told = "" if there.type == kind else f", as a {there.type} repository"
                status = 409 if there.type == kind else 400
                error = f"{name} is here already{told}"
                return JSONResponse({"error": error, "url": url}, status, {"X-Error-Message": error})
            self._repositories.begin(kind, name)
        return JSONResponse({"url": url, "name": name, "id": name})

    async def delete(self, request: Request) -> Response:
        """Only a repository without versions: what has a version is removed where the registry is."""
        kind, name = _named(await _object(request))
        return await run_in_threadpool(self._delete, kind, name)

    def _delete(self, kind: Type, name: str) -> Response:
        self._repositories.find(kind, name)
        with pointers.alone(self._registry, name):
            if self._repositories.find(kind, name).newest:
                raise HubError(403, f"versions are not deleted from afar: `tuneforge registry rm {name}` does it")
            self._repositories.forget(name)
        return JSONResponse({})

    async def move(self, request: Request) -> Response:
        raise HubError(403, "names do not move: tag the artifact with the other name, where the registry is")

    async def preupload(self, request: Request) -> Response:
        """Which files come within the commit and which are uploaded before; refuses early what would be refused."""
        if flag(request, "create_pr"):
            raise bad(_NO_REQUESTS)
        asked = await _object(request)
        listed = asked.get("files")
        if not isinstance(listed, list) or len(listed) > _FILES or not all(isinstance(one, dict) for one in listed):
            raise bad(f"files must be a list of {_FILES} objects at most")
        wanted = []
        for one in listed:
            path, size = text_of(one, "path"), whole_of(one, "size")
            checks.check_name(path, self._allow_pickle)
            _sample(one)
            wanted.append((path, size))
        return await run_in_threadpool(self._preupload, request, wanted)

    def _preupload(self, request: Request, wanted: list[tuple[str, int]]) -> Response:
        repository = self._repositories.find(*repository_of(request))
        there = pointers.branch(repository, part(request, "revision")).files
        told = []
        for path, size in wanted:
            small = size <= commits.SMALL and not path.endswith(_BEFORE)
            entry = there.get(path)
            told.append(
                {
                    "path": path,
                    "uploadMode": "regular" if small else "lfs",
                    "shouldIgnore": False,
                    "oid": self._oid(entry, small) if entry is not None and entry.size == size else None,
                }
            )
        return JSONResponse({"files": told})

    def _oid(self, entry: FileEntry, small: bool) -> str | None:
        """By which the client sees that a file is here as it is: what git calls a small one, the sha256 of others."""
        if not small:
            return entry.sha256
        try:
            return documents.git_oid(blobs.location(self._registry.home, entry.sha256).read_bytes())
        except FileNotFoundError:
            return None

    async def commit(self, request: Request) -> Response:
        if flag(request, "create_pr"):
            raise bad(_NO_REQUESTS)
        kind, name = repository_of(request)
        revision = part(request, "revision")
        found = await run_in_threadpool(self._repositories.find, kind, name)
        pointers.branch(found, revision)
        with self._registry.workspace() as room:
            change = await commits.read(request, room, self._registry, self._allow_pickle)
            async with self._carrying:
                version = await run_in_threadpool(self._committing.carry_out, kind, name, revision, change, room)
        url = f"{_address(request, kind, name)}/commit/{version.commit}"
        return JSONResponse({"success": True, "commitOid": version.commit, "commitUrl": url, "hookOutput": ""})

    async def validate(self, request: Request) -> Response:
        """Whether the metadata at the top of a card can be read."""
        content = (await body(request, _CARD)).content
        try:
            async with self._looking:
                await run_in_threadpool(_front_matter, content)
        except ValueError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    async def add_branch(self, request: Request) -> Response:
        start = text_of(await _object(request), "startingPoint", default=MAIN)
        return await run_in_threadpool(self._point, request, part(request, "branch"), start, tag=False)

    async def add_tag(self, request: Request) -> Response:
        tag = text_of(await _object(request), "tag")
        return await run_in_threadpool(self._point, request, tag, part(request, "revision"), tag=True)

    def _point(self, request: Request, called: str, revision: str, *, tag: bool) -> Response:
        with self._alone(request) as repository:
            if called == MAIN or repository.number(called) is not None:
                raise HubError(409, f"{repository.name} has {called} already")
            (pointers.check_moving if tag else pointers.check)(called)
            number = repository.at(revision).number
            if not number:
                raise bad(f"{repository.name} has no version yet that {called} could stand for")
            try:
                if tag:
                    self._registry.describe(repository.name, number, add=[called])
                else:
                    self._registry.point(repository.name, number, called)
            except RegistryError as error:
                raise bad(f"{error.problem}: {error.fix}") from None
        return JSONResponse({})

    def remove_branch(self, request: Request) -> Response:
        branch = part(request, "branch")
        with self._alone(request) as repository:
            if branch == MAIN:
                raise HubError(403, f"{MAIN} is what everybody pulls: it stays")
            if branch not in repository.known.aliases:
                raise no_revision(repository.name, branch)
            self._registry.remove_alias(repository.name, branch)
        return JSONResponse({})

    def remove_tag(self, request: Request) -> Response:
        tag = part(request, "tag")
        with self._alone(request) as repository:
            tagged = repository.tagged(tag)
            if not tagged:
                if repository.number(tag) is not None:
                    raise HubError(403, f"{tag} is a version or a branch, and no tag")
                raise no_revision(repository.name, tag)
            for number in tagged:
                self._registry.describe(repository.name, number, drop=[tag])
        return JSONResponse({})

    @contextmanager
    def _alone(self, request: Request) -> Iterator[Repository]:
        kind, name = repository_of(request)
        self._repositories.find(kind, name)  # before anything is made for it
        with pointers.alone(self._registry, name):
            yield self._repositories.find(kind, name)


def _address(request: Request, kind: Type, name: str) -> str:
    """What the client takes the id from, which must have two parts there."""
    full = name if "/" in name else f"{NONE}/{name}"
    return f"{base(request)}/{'datasets/' if kind == 'dataset' else ''}{full}"


async def _object(request: Request) -> dict[str, Any]:
    return (await body(request)).json()


def _front_matter(content: bytes) -> None:
    documents.front_matter(text_of(read_object(content), "content", default=""))


def _named(asked: dict[str, Any]) -> tuple[Type, str]:
    kind = text_of(asked, "type", default="model")
    name, organization = text_of(asked, "name"), text_of(asked, "organization", default="")
    full = called(f"{organization}/{name}" if organization else name)
    if kind not in ("model", "dataset"):
        raise bad(f"repositories are of models and datasets here, not of the type {kind!r}")
    return ("dataset" if kind == "dataset" else "model"), full


def _sample(one: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(text_of(one, "sample", default=""), validate=True)
    except (binascii.Error, ValueError):
        raise bad("sample is not base64") from None
