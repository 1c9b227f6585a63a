"""Branches, which are aliases of a name and move, and tags, which are those of its versions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tuneforge_registry import Registry
from tuneforge_registry_server.errors import HubError, bad
from tuneforge_registry_server.repositories import MAIN, Repository, Version

_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_FIXED = re.compile(r"v[1-9][0-9]*|[0-9a-f]{40}|[0-9a-f]{64}")


@contextmanager
def alone(registry: Registry, name: str) -> Iterator[None]:
    """Nobody else commits to the repository meanwhile, and gc leaves what was brought since."""
    with registry.lock(f"repository-{hashlib.sha256(name.encode()).hexdigest()[:32]}"):
        yield


def check(alias: str) -> str:
    """The alias itself. HubError if nothing can be called so."""
    check_moving(alias)
    if not _ALIAS.fullmatch(alias):
        raise bad(f"{alias!r} cannot be a branch here: lower-case letters, digits, '.', '_' and '-'")
    return alias


def check_moving(alias: str) -> None:
    """HubError if something that never changes is called so."""
    if _FIXED.fullmatch(alias):
        raise bad(f"{alias} is how a version or commit is called, which never changes: choose another name")
    if alias.startswith("refs/"):
        raise bad(f"{alias} is how clients write a branch or tag in full: choose another name")


def branch(repository: Repository, name: str) -> Version:
    """What a branch points to, to commit on it. HubError for a revision that never moves."""
    if name == MAIN or name in repository.known.aliases:
        return repository.at(name)
    if repository.number(name) is not None:
        raise HubError(403, f"{name} never changes: commit to {MAIN} or to a branch")
    return repository.at(name)
