"""What artifacts are called in a registry."""

from __future__ import annotations

from tuneforge_registry import Registry


def names_of(registry: Registry) -> dict[str, list[str]]:
    """What each digest is called: `name@v3 @production`."""
    called: dict[str, list[str]] = {}
    for version in registry.versions():
        called.setdefault(version.digest, []).append(str(version))
    return called
