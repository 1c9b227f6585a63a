"""The step cache: which artifact a step key gave."""

from __future__ import annotations

from pathlib import Path

from tuneforge_registry import blobs, files, manifests
from tuneforge_registry.errors import RegistryError


def location(home: Path, key: str) -> Path:
    return home / "steps" / files.plain("a step key", key)


def recorded(home: Path, key: str) -> str | None:
    """The digest under a key, whether or not the artifact is there; None if there is no (readable) one."""
    try:
        digest = location(home, key).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    return digest if manifests.is_digest(digest) else None


def result(home: Path, key: str) -> str | None:
    """The digest under a key if the artifact is there in full (by size), else None. Tells gc that it is wanted."""
    digest = recorded(home, key) if files.touch(location(home, key)) else None
    if digest is None:
        return None
    try:
        manifest = manifests.read(home, digest)
    except RegistryError:  # gone or damaged: either way the step has to run again
        return None
    return digest if all(blobs.holds(home, entry) for entry in manifest.files.values()) else None


def remember(home: Path, key: str, digest: str) -> None:
    manifests.read(home, digest)
    files.replace(home, location(home, key), digest + "\n")
