"""Names as repositories, versions as their commits, and what a revision means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Literal

from tuneforge_registry import FileEntry, Manifest, Name, Registry, files, refs
from tuneforge_registry.notes import About
from tuneforge_registry_server.errors import HubError, no_repository, no_revision

Type = Literal["model", "dataset"]
MAIN = "main"
NOTHING = "0" * 40
"""The commit of a repository without versions."""
_VERSION = re.compile(r"v([1-9][0-9]*)")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Kinds:
    """What the registry's owner knows of artifacts: `of` gives kind and base of a folder that a client has made.

    It is told the folder, whose repository it is for, and the kind of the version before, if there is one;
    RegistryError refuses the folder. Repositories of kinds in `data` are datasets.
    """

    data: frozenset[str]
    of: Callable[[Path, Type, str | None], tuple[str, str | None]]


@dataclass(frozen=True)
class Version:
    """A version of a name, or the nothing that a new repository begins with (number 0)."""

    number: int
    digest: str | None
    manifest: Manifest | None
    made: datetime
    note: str = ""

    @property
    def commit(self) -> str:
        return commit_of(self.digest)

    @property
    def files(self) -> Mapping[str, FileEntry]:
        return self.manifest.files if self.manifest else {}

    @property
    def title(self) -> str:
        told = self.note.partition("\n")[0]
        return told or (f"v{self.number}" if self.number else "an empty repository")

    @property
    def message(self) -> str:
        return self.note.partition("\n")[2].strip()


@dataclass(frozen=True)
class Repository:
    """A name of the registry as a client sees it."""

    registry: Registry
    type: Type
    name: str
    known: Name
    created: datetime

    @property
    def newest(self) -> int:
        return max(self.known.versions, default=0)

    @property
    def main(self) -> int:
        return self.known.aliases.get(MAIN, self.newest)

    @property
    def made(self) -> datetime:
        """When what `main` stands for became a version."""
        return _made(self.registry, self.name, self.main)

    def version(self, number: int) -> Version:
        digest = self.known.versions.get(number)
        if digest is None:
            return Version(0, None, None, self.created)
        note = self.known.about.get(number, About()).note
        return Version(number, digest, self.registry.manifest(digest), _made(self.registry, self.name, number), note)

    def at(self, revision: str) -> Version:
        """The version that a revision means: `main`, v3, an alias, a tag (its newest version), or a commit."""
        number = self.number(revision)
        if number is None:
            raise no_revision(self.name, revision)
        return self.version(number)

    def number(self, revision: str) -> int | None:
        for prefix in ("refs/heads/", "refs/tags/"):
            revision = revision.removeprefix(prefix)
        if revision == MAIN:
            return self.main
        version = _VERSION.fullmatch(revision)
        if version:
            return int(version[1]) if int(version[1]) in self.known.versions else None
        if revision in self.known.aliases:
            return self.known.aliases[revision]
        if tagged := self.tagged(revision):
            return tagged[-1]
        if revision == NOTHING and not self.known.versions:
            return 0
        if _COMMIT.fullmatch(revision):
            found = [number for number, digest in self.known.versions.items() if digest.startswith(revision)]
            return max(found, default=None)
        return None

    def tagged(self, tag: str) -> list[int]:
        """The versions with a tag, oldest first."""
        return sorted(number for number, about in self.known.about.items() if tag in about.tags)

    def history(self, number: int) -> Iterator[Version]:
        """That version and those before it, newest first."""
        for earlier in sorted(self.known.versions, reverse=True):
            if earlier <= number:
                yield self.version(earlier)

    @cached_property
    def current(self) -> Version:
        return self.version(self.main)


class Repositories:
    """The repositories of a registry."""

    def __init__(self, registry: Registry, kinds: Kinds) -> None:
        self.registry = registry
        self.kinds = kinds

    def find(self, type: Type, name: str) -> Repository:
        """HubError for one that is not here, or is of the other type."""
        found = self.look(name)
        if found is None or found.type != type:
            raise no_repository(type, name)
        return found

    def look(self, name: str) -> Repository | None:
        name = name.lower()
        known = refs.named(self.registry.home, name)
        if known is not None:
            return self._repository(name, known)
        begun = self._begun(name)
        return Repository(self.registry, begun[0], name, Name({}, {}), begun[1]) if begun else None

    def all(self, type: Type) -> Iterator[Repository]:
        """Every repository of a type that has a version, by name, as the index has them: quick when there are many."""
        kinds = {stored.digest: stored.kind for stored in self.registry.artifacts()}
        for name, group in groupby(self.registry.versions(), lambda version: version.name):
            versions = list(group)
            kind = kinds.get(versions[-1].digest)  # of a damaged one, which `verify` reports, it is not known
            if kind is None or (kind in self.kinds.data) != (type == "dataset"):
                continue
            if any(MAIN in version.aliases and version.digest not in kinds for version in versions):
                continue
            known = Name(
                {version.number: version.digest for version in versions},
                {alias: version.number for version in versions for alias in version.aliases},
                {version.number: About(version.tags, version.note) for version in versions},
            )
            yield Repository(self.registry, type, name, known, versions[0].named)

    def begin(self, type: Type, name: str) -> None:
        """Note that there is a repository without versions yet."""
        check_name(name)
        text = json.dumps({"name": name, "type": type, "created": datetime.now(UTC).isoformat()}) + "\n"
        files.replace(self.registry.home, self._note(name), text)

    def forget(self, name: str) -> None:
        """Take back `begin`."""
        self._note(name).unlink(missing_ok=True)

    def _repository(self, name: str, known: Name) -> Repository:
        kind = self.registry.manifest(known.versions[max(known.versions)]).kind
        made = _made(self.registry, name, min(known.versions))
        return Repository(self.registry, "dataset" if kind in self.kinds.data else "model", name, known, made)

    def _begun(self, name: str) -> tuple[Type, datetime] | None:
        try:
            check_name(name)
            noted = json.loads(self._note(name).read_bytes())
            return ("dataset" if noted["type"] == "dataset" else "model"), datetime.fromisoformat(noted["created"])
        except (FileNotFoundError, HubError):
            return None
        except (ValueError, TypeError, KeyError):  # cut short: it can be created anew
            return None

    def _note(self, name: str) -> Path:
        return self.registry.home / "repositories" / f"{name.replace('/', '%2F')}.json"


def commit_of(digest: str | None) -> str:
    """The commit by which a client knows an artifact."""
    return digest[:40] if digest else NOTHING


def check_name(name: str) -> None:
    """HubError unless a repository can be called so."""
    parts = name.split("/")
    if len(parts) > 2 or not all(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,95}", part) for part in parts):
        raise HubError(400, f"{name!r} cannot be a repository's id: letters, digits, '.', '_' and '-', and one '/'")
    if "--" in name or ".." in name or name.endswith(".git") or re.fullmatch(r"[0-9a-f]{64}", name):
        raise HubError(400, f"{name!r} cannot be a repository's id: no '--', no '..', no '.git' at the end, no digest")


def _made(registry: Registry, name: str, number: int) -> datetime:
    """When a version was made: its file never changes."""
    try:
        stamp = (registry.home / "refs" / name / f"v{number}").stat().st_mtime
    except FileNotFoundError:
        stamp = 0.0
    return datetime.fromtimestamp(stamp, UTC)
