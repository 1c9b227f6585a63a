"""A commit: changes to the files of a version, all of which become the next version or none does."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from tuneforge_registry import FileEntry, Registry, RegistryError, blobs
from tuneforge_registry.manifests import is_digest
from tuneforge_registry.notes import About
from tuneforge_registry_server import checks, pointers, uploads
from tuneforge_registry_server.errors import HubError, bad
from tuneforge_registry_server.repositories import MAIN, Kinds, Repositories, Repository, Type, Version
from tuneforge_registry_server.requests import read_object, text_of, whole_of

SMALL = 5 << 20
"""Bytes up to which a file comes within the commit; larger ones are uploaded before."""
_LINE = SMALL * 4 // 3 + (64 << 10)
_CHANGES = 25_000
_NOTE = 10_000


@dataclass
class Change:
    """What a client asks for: files by path in the order given (None deletes), and on which commit it is founded."""

    note: str = ""
    """The words of the commit: a title, and lines that explain it."""
    parent: str = ""
    steps: list[tuple[str, FileEntry | None, bool]] = field(default_factory=list)
    """Path, what is there from now on, and whether it is a folder."""
    fresh: dict[str, Path] = field(default_factory=dict)
    """What came within the commit: files by their sha256."""


async def lines(request: Request) -> AsyncIterator[bytes]:
    """The lines of a body, each bounded: it is never in memory as a whole."""
    pending = bytearray()
    async for piece in request.stream():
        pending += piece
        while (end := pending.find(b"\n")) >= 0:
            line = bytes(pending[:end])
            del pending[: end + 1]
            if line.strip():
                yield line
        if len(pending) > _LINE:
            raise HubError(413, f"a file above {SMALL} bytes is to be uploaded before its commit")
    if pending.strip():
        yield bytes(pending)


async def read(request: Request, room: Path, registry: Registry, allow_pickle: Collection[str]) -> Change:
    """A change out of the lines of a request (application/x-ndjson). Files that come with it are put into `room`."""
    change = Change()
    async for line in lines(request):
        item = read_object(line)
        value = item.get("value")
        if not isinstance(value, dict):
            raise bad("a line of a commit has a key and a value")
        key = text_of(item, "key")
        if key == "header":
            change.note = _note(text_of(value, "summary", default=""), text_of(value, "description", default=""))
            change.parent = text_of(value, "parentCommit", default="")
            continue
        if len(change.steps) >= _CHANGES:
            raise HubError(413, f"a commit has {_CHANGES} changes at most")
        path = text_of(value, "path")
        match key:
            case "file":
                checks.check_name(path, allow_pickle)
                change.steps.append((path, await run_in_threadpool(_small, value, path, room, change), False))
            case "lfsFile":
                checks.check_name(path, allow_pickle)
                change.steps.append((path, await run_in_threadpool(_large, value, path, registry), False))
            case "deletedFile" | "deletedFolder":
                change.steps.append((path.strip("/"), None, key == "deletedFolder"))
            case _:
                raise bad(f"{key} is not offered in a commit here")
    return change


def _note(title: str, description: str) -> str:
    """As far as it can be a note, which is plain text of a bounded length."""
    lines = [title, *([""] if description else []), *description.splitlines()]
    plain = ("".join(sign if sign.isprintable() else " " for sign in line) for line in lines)
    return "\n".join(plain).strip()[:_NOTE]


def _small(value: dict[str, Any], path: str, room: Path, change: Change) -> FileEntry:
    content = text_of(value, "content")
    if text_of(value, "encoding", default="utf-8") == "base64":
        try:
            data = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            raise bad(f"the content of {path} is not base64") from None
    else:
        data = content.encode()
    entry = FileEntry(hashlib.sha256(data).hexdigest(), len(data))
    if entry.sha256 not in change.fresh:
        change.fresh[entry.sha256] = room / entry.sha256
        (room / entry.sha256).write_bytes(data)
    return entry


def _large(value: dict[str, Any], path: str, registry: Registry) -> FileEntry:
    oid = text_of(value, "oid")
    if not is_digest(oid) or text_of(value, "algo", default="sha256") != "sha256":
        raise bad(f"the oid of {path} must be a sha256 of 64 hexadecimal digits")
    size = uploads.size_of(registry, oid)
    if size is None:
        raise bad(f"the content of {path} is not here: upload it again, then commit")
    if value.get("size") is not None and whole_of(value, "size") != size:
        raise bad(f"{path} has {size} bytes, not {value['size']}")
    return FileEntry(oid, size)


class Committing:
    """Carries changes out. One at a time for a repository, whichever process they come through."""

    def __init__(self, repositories: Repositories, allow_pickle: Collection[str]) -> None:
        self._repositories = repositories
        self._registry = repositories.registry
        self._kinds: Kinds = repositories.kinds
        self._allow_pickle = allow_pickle

    def carry_out(self, type: Type, name: str, branch: str, change: Change, room: Path) -> Version:
        """The version that a change makes; the one before, if it changes nothing."""
        with pointers.alone(self._registry, name):
            repository = self._repositories.find(type, name)
            before = pointers.branch(repository, branch)
            if change.parent and not before.commit.startswith(change.parent):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            entries = _applied(change, before)
            if not entries:
                raise bad("a version holds at least one file")
            if entries == dict(before.files):
                return before
            checks.check_names(entries, before.files)
            self._check_new(entries, before, change)
            kind, base = self._kind(entries, before, change, type, room)
            fresh = change.fresh | self._uploaded(entries)
            fresh = {entry.sha256: fresh[entry.sha256] for entry in entries.values() if entry.sha256 in fresh}
            try:
                digest = self._registry.assemble(kind, base, entries, fresh)
            except RegistryError as error:
                raise bad(f"{error.problem}: {error.fix}") from None
            number = self._name(repository, branch, digest)
            if change.note and not repository.known.about.get(number, About()).note:
                self._registry.describe(name, number, note=change.note)
            self._repositories.forget(name)
            for sha256 in fresh:
                uploads.release(self._registry, sha256)
            return self._repositories.find(type, name).version(number)

    def _name(self, repository: Repository, branch: str, digest: str) -> int:
        """Makes an artifact the newest version, and what the branch points to."""
        aliases = repository.known.aliases
        if branch == MAIN:
            return self._registry.tag(repository.name, digest, MAIN if MAIN in aliases else None)
        if MAIN not in aliases and repository.newest:
            # Until now `main` was the newest version, which from now on is another branch's.
            self._registry.point(repository.name, repository.newest, MAIN)
        return self._registry.tag(repository.name, digest, branch)

    def _check_new(self, entries: dict[str, FileEntry], before: Version, change: Change) -> None:
        known = before.files
        for path, entry in entries.items():
            if known.get(path) != entry:
                checks.check_content(path, self._bytes(entry, change), self._allow_pickle)

    def _kind(
        self, entries: dict[str, FileEntry], before: Version, change: Change, type: Type, room: Path
    ) -> tuple[str, str | None]:
        folder = room / "tree"
        for path, entry in entries.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(self._bytes(entry, change))
        try:
            kind, base = self._kinds.of(folder, type, before.manifest.kind if before.manifest else None)
        except RegistryError as error:
            raise bad(f"{error.problem}: {error.fix}") from None
        if base is None and before.manifest is not None and before.manifest.kind == kind:
            base = before.manifest.base
        if (kind in self._kinds.data) != (type == "dataset"):
            raise bad(f"what is in it is of the kind {kind}, which is no {type}'s")
        return kind, base

    def _bytes(self, entry: FileEntry, change: Change) -> Path:
        if entry.sha256 in change.fresh:
            return change.fresh[entry.sha256]
        if blobs.holds(self._registry.home, entry):
            return blobs.location(self._registry.home, entry.sha256)
        if (place := uploads.waiting(self._registry, entry.sha256)).exists():
            return place
        raise bad("some of its content is not here any more: upload it again, then commit")

    def _uploaded(self, entries: dict[str, FileEntry]) -> dict[str, Path]:
        """What waits to be committed and is not among the blobs."""
        return {
            entry.sha256: place
            for entry in entries.values()
            if not blobs.holds(self._registry.home, entry)
            and (place := uploads.waiting(self._registry, entry.sha256)).exists()
        }


def _applied(change: Change, before: Version) -> dict[str, FileEntry]:
    entries = dict(before.files)
    for path, entry, whole in change.steps:
        if entry is not None:
            entries[path] = entry
        elif whole:
            gone = [name for name in entries if name.startswith(f"{path}/") or not path]
            if not gone:
                raise HubError(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del entries[name]
        elif entries.pop(path, None) is None:
            raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
    return entries
