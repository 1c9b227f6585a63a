"""A content-addressed store for artifacts, with names, provenance and a step cache. Files are the truth."""

from tuneforge_registry.errors import RegistryError
from tuneforge_registry.manifests import FileEntry, Manifest
from tuneforge_registry.refs import Name
from tuneforge_registry.registry import Registry, Stored

__all__ = ["FileEntry", "Manifest", "Name", "Registry", "RegistryError", "Stored"]
