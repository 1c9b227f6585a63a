"""What artifacts are called in a registry."""

from __future__ import annotations

from tuneforge_registry import Registry


def names_of(registry: Registry) -> dict[str, list[str]]:
    """What each digest is called: `name@v3 @production`."""
    called: dict[str, list[str]] = {}
    for name, known in registry.names().items():
        for version, digest in known.versions.items():
            aliases = "".join(f" @{alias}" for alias, number in known.aliases.items() if number == version)
            called.setdefault(digest, []).append(f"{name}@v{version}{aliases}")
    return called
