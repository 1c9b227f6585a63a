"""What a client may not bring into the registry, whatever its digest."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tuneforge_registry import RegistryError, pickles, untrusted
from tuneforge_registry.untrusted import Refusal
from tuneforge_registry_server.errors import bad


def check_name(path: str, allow_pickle: Collection[str]) -> None:
    """HubError unless a file may be called so: before it is sent."""
    found = [*untrusted.name_problems([path])]
    if path not in allow_pickle and pickles.named(path):
        fix = f"save weights as safetensors; who trusts it starts the server with --allow-pickle {path}"
        found.append(Refusal(path, "is a pickle by its name, which runs code when it is loaded", fix))
    _refuse(found)


def check_names(paths: Collection[str], known: Collection[str]) -> None:
    """HubError if a path that is not `known` already clashes with another on some system."""
    # Of two that clash the later one is told: new ones come last.
    ordered = sorted(paths, key=lambda path: (path not in known, path))
    _refuse([refusal for refusal in untrusted.name_problems(ordered) if refusal.path not in known])


def check_content(path: str, file: Path, allow_pickle: Collection[str]) -> None:
    """HubError unless a file may come in under that name."""
    found = untrusted.content_problem(file, path, allow_pickle)
    _refuse([found] if found else [])


def _refuse(found: list[Refusal]) -> None:
    try:
        untrusted.refuse(found)
    except RegistryError as error:
        raise bad(f"{error.problem}: {error.fix}") from None
