"""A content-addressed store for artifacts, with names, provenance and a step cache. Files are the truth."""

from tuneforge_registry.errors import RegistryError
from tuneforge_registry.found import Score, Stored, Version, Wanted
from tuneforge_registry.manifests import FileEntry, Manifest
from tuneforge_registry.notes import About
from tuneforge_registry.refs import Name
from tuneforge_registry.registry import Registry

__all__ = [
    "About",
    "FileEntry",
    "Manifest",
    "Name",
    "Registry",
    "RegistryError",
    "Score",
    "Stored",
    "Version",
    "Wanted",
]
