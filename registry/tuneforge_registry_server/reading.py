"""What can be asked: repositories, revisions, trees, and files themselves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from tuneforge_registry import FileEntry, blobs
from tuneforge_registry_server import documents
from tuneforge_registry_server.addresses import flag, part, repository_of, strings
from tuneforge_registry_server.errors import HubError, bad, no_entry
from tuneforge_registry_server.repositories import MAIN, Repositories, Repository, Type, Version, commit_of
from tuneforge_registry_server.requests import Body, body

_PAGE, _EXPANDED_PAGE = 1000, 50
"""Entries of a tree in one answer, as on the Hub."""
_PATHS = 2000
"""Paths that can be asked about at once."""


class Reading:
    """Answers to questions. Each is answered in a thread, so that none waits for another's disk."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._home = repositories.registry.home

    def listing(self, request: Request) -> Response:
        """The repositories that fit `search`, `author` and every `filter`, newest first."""
        kind: Type = "dataset" if request.path_params["types"] == "datasets" else "model"
        query = request.query_params
        search, author = query.get("search", "").lower(), query.get("author", "").lower()
        wanted = {tag for given in query.getlist("filter") for tag in given.split(",") if tag}
        found = [
            repository
            for repository in self._repositories.all(kind)
            if search in repository.name and (not author or repository.name.startswith(f"{author}/"))
        ]
        if query.get("sort") not in ("id", "name"):
            found.sort(key=lambda repository: repository.made, reverse=True)
        size = min(_number(query.get("limit"), _PAGE) or 1, _PAGE)
        documented = (
            documents.repository(repository, repository.current, siblings=flag(request, "full")) for repository in found
        )
        fitting = (document for document in documented if wanted <= set(document["tags"]))
        # No more cards are read than the page has, and one: whether there is a next page.
        return self._page(request, list(islice(fitting, _number(query.get("cursor"), 0) + size + 1)), size)

    def repository(self, request: Request) -> Response:
        repository = self._asked(request)
        version = repository.at(part(request, "revision") if "revision" in request.path_params else MAIN)
        return JSONResponse(documents.repository(repository, version, blob_sizes=flag(request, "blobs")))

    def tree(self, request: Request) -> Response:
        """The files and folders below a path, or of the whole repository."""
        repository = self._asked(request)
        version = repository.at(part(request, "revision"))
        below = part(request, "path").strip("/") if "path" in request.path_params else ""
        deep, expand = flag(request, "recursive"), flag(request, "expand")
        entries = list(_entries(version, below, deep))
        if below and not entries:
            raise no_entry(repository.name, below)
        commits = _Commits(repository, version) if expand else None
        rows = [_described(path, inside, commits) for path, inside in entries]
        return self._page(request, rows, _EXPANDED_PAGE if expand else _PAGE)

    async def paths(self, request: Request) -> Response:
        """What is known of some paths; those that are not there are left out."""
        return await run_in_threadpool(self._paths, request, await body(request))

    def _paths(self, request: Request, content: Body) -> Response:
        repository = self._asked(request)
        version = repository.at(part(request, "revision"))
        if request.headers.get("content-type", "").startswith("application/json"):
            asked = content.json()
            wanted, expand = strings(asked.get("paths")), bool(asked.get("expand"))
        else:
            form = _form(content.text())
            wanted = [path for key in ("paths", "paths[]") for path in form.get(key, [])]
            expand = form.get("expand", [""])[0].lower() in ("1", "true")
        if len(wanted) > _PATHS:
            raise bad(f"too many paths: ask about {_PATHS} at once")
        commits = _Commits(repository, version) if expand else None
        rows = []
        for path in dict.fromkeys(path.strip("/") for path in wanted):
            if path in version.files:
                rows.append(_described(path, version.files[path], commits))
            elif inside := _inside(version, path):
                rows.append(_described(path, inside, commits))
        return JSONResponse(rows)

    def refs(self, request: Request) -> Response:
        """Branches are `main` and the aliases, which move; tags are the versions, which never do, and their tags."""
        repository = self._asked(request)
        branches = {MAIN: repository.main} | dict(repository.known.aliases)
        tags = {f"v{number}": number for number in sorted(repository.known.versions)}
        tags |= {tag: number for number, about in sorted(repository.known.about.items()) for tag in about.tags}
        document: dict[str, Any] = {
            "branches": [
                _ref("heads", name, repository, number) for name, number in branches.items() if number or name == MAIN
            ],
            "converts": [],
            "tags": [_ref("tags", name, repository, number) for name, number in tags.items()],
        }
        if flag(request, "include_prs"):
            document["pullRequests"] = []
        return JSONResponse(document)

    def commits(self, request: Request) -> Response:
        repository = self._asked(request)
        version = repository.at(part(request, "revision"))
        rows = list(documents.commits(repository.history(version.number)))
        if flag(request, "formatted") or "formatted" in request.query_params.getlist("expand[]"):
            for row in rows:
                row["formatted"] = {"title": row["title"], "message": row["message"]}
        return self._page(request, rows, _PAGE)

    def file(self, request: Request) -> Response:
        """A file of a revision, whole or in ranges, or nothing but its headers."""
        repository = self._asked(request)
        version = repository.at(part(request, "revision"))
        path = part(request, "path")
        headers = {"X-Repo-Commit": version.commit}
        entry = version.files.get(path)
        if entry is None:
            response = no_entry(repository.name, path).response()
            response.headers.update(headers)  # by which the client remembers that this commit has no such file
            return response
        headers |= {
            "ETag": f'"{entry.sha256}"',
            "X-Linked-Etag": f'"{entry.sha256}"',
            "X-Linked-Size": str(entry.size),
            "Cache-Control": "no-cache",  # a branch moves; who asks with If-None-Match is sent nothing twice
            "Content-Security-Policy": "sandbox; default-src 'none'",  # what was uploaded is no page of ours
            "X-Content-Type-Options": "nosniff",
        }
        return self.blob(request, entry, path, headers)

    def blob(self, request: Request, entry: FileEntry, path: str, headers: dict[str, str]) -> Response:
        """The bytes of an entry, under the headers that tell what it is."""
        if _unchanged(request, entry):
            return Response(status_code=304, headers=headers)
        blob = blobs.location(self._home, entry.sha256)
        try:
            status = blob.stat()
        except FileNotFoundError:
            status = None
        if status is None or status.st_size != entry.size:
            raise HubError(410, f"the bytes of {path!r} are gone or cut short: see `tuneforge registry verify`")
        name = path.rpartition("/")[2]
        return _File(blob, headers=headers, media_type="application/octet-stream", filename=name, stat_result=status)

    def _asked(self, request: Request) -> Repository:
        return self._repositories.find(*repository_of(request))

    def _page(self, request: Request, rows: list[dict[str, Any]], size: int) -> Response:
        """A page of a list; `Link` names the next, as GitHub does."""
        start = _number(request.query_params.get("cursor"), 0)
        headers = {}
        if start + size < len(rows):
            query = [(key, value) for key, value in request.query_params.multi_items() if key != "cursor"]
            query.append(("cursor", str(start + size)))
            address = f"{base(request)}{request.scope['path']}?{urlencode(query)}"
            headers["Link"] = f'<{address}>; rel="next"'
        return JSONResponse(rows[start : start + size], headers=headers)


class _File(FileResponse):
    chunk_size = 1 << 20


class _Commits:
    """Which commit brought a file to what it is in a version."""

    def __init__(self, repository: Repository, version: Version) -> None:
        self._history = list(repository.history(version.number))

    def of(self, path: str, entry: FileEntry) -> dict[str, Any]:
        brought = self._history[0]
        for version in self._history[1:]:
            if version.files.get(path) != entry:
                break
            brought = version
        return documents.commit(brought)

    @property
    def newest(self) -> dict[str, Any]:
        return documents.commit(self._history[0])


_Inside = list[tuple[str, FileEntry]]


def _entries(version: Version, below: str, deep: bool) -> Iterator[tuple[str, FileEntry | _Inside]]:
    """Files and folders below a path, sorted: direct ones, or all."""
    prefix = f"{below}/" if below else ""
    folders: dict[str, _Inside] = {}
    direct: dict[str, FileEntry] = {}
    for path, entry in version.files.items():
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if deep else min(len(parts), 2)):
            folders.setdefault(prefix + "/".join(parts[:depth]), []).append((path, entry))
        if deep or len(parts) == 1:
            direct[path] = entry
    found: dict[str, FileEntry | _Inside] = {**folders, **direct}
    for path in sorted(found):
        yield path, found[path]


def _inside(version: Version, path: str) -> _Inside:
    return [(name, entry) for name, entry in version.files.items() if name.startswith(f"{path}/")]


def _described(path: str, found: FileEntry | _Inside, commits: _Commits | None) -> dict[str, Any]:
    if isinstance(found, FileEntry):
        return documents.file(path, found, commits.of(path, found) if commits else None)
    return documents.folder(path, found, commits.newest if commits else None)


def _form(text: str) -> dict[str, list[str]]:
    try:
        return parse_qs(text, max_num_fields=_PATHS + 1)
    except ValueError:
        raise bad(f"too many paths: ask about {_PATHS} at once") from None


def _ref(where: str, name: str, repository: Repository, number: int) -> dict[str, Any]:
    digest = repository.known.versions.get(number)
    return {"name": name, "ref": f"refs/{where}/{name}", "targetCommit": commit_of(digest)}


def _unchanged(request: Request, entry: FileEntry) -> bool:
    """Whether the client says that it has these bytes."""
    known = [tag.strip().removeprefix("W/").strip('"') for tag in request.headers.get("if-none-match", "").split(",")]
    return entry.sha256 in known or "*" in known


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def base(request: Request) -> str:
    """The address of this server as the client calls it."""
    return f"{request.url.scheme}://{request.headers.get('host', '127.0.0.1')}"
