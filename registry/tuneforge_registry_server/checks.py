"""What a client may not bring into the registry, whatever its digest."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from tuneforge_registry import pickles, untrusted
from tuneforge_registry_server.errors import bad


def check_name(path: str, allow_pickle: Collection[str]) -> None:
    """HubError unless a file may be called so: told before its bytes are sent."""
    _refuse(untrusted.name_problems([path]))
    if path not in allow_pickle and path.lower().endswith(pickles.SUFFIXES):
        raise bad(
            f"{path} is a pickle by its name, which runs code wherever it is opened: save safetensors instead; "
            f"who trusts it starts the server with --allow-pickle {path}"
        )


def check_names(paths: Collection[str], before: Collection[str]) -> None:
    """HubError if a file and another cannot be beside each other, unless they were before."""
    known = {refusal.path for refusal in untrusted.name_problems(before)}
    _refuse(refusal for refusal in untrusted.name_problems(paths) if refusal.path not in known)


def check_content(path: str, file: Path, allow_pickle: Collection[str]) -> None:
    """HubError unless a file may come in under that name."""
    refusal = untrusted.content_problem(file, path, allow_pickle)
    _refuse([refusal] if refusal else [])


def _refuse(found: Iterable[untrusted.Refusal]) -> None:
    for refusal in found:
        raise bad(f"{refusal.path!r} {refusal.problem}: {refusal.fix}")
