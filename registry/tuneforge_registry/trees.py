"""Artifacts as ready folders: hard links to blobs, remade whenever they are not exactly the artifact."""

from __future__ import annotations

import os
from pathlib import Path

from tuneforge_registry import blobs, files, filesystems
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.manifests import Manifest


def location(home: Path, digest: str) -> Path:
    return home / "trees" / digest


def ready(home: Path, manifest: Manifest) -> Path:
    """The folder of an artifact, made if it is not there or not whole. RegistryError if a blob is gone."""
    folder = location(home, manifest.digest)
    # Touched first: then gc, which looks at the time right before it removes, leaves it to us.
    if files.touch(folder) and _is_whole(home, manifest, folder):
        return folder
    from tuneforge_registry import locks

    with locks.workspace(home) as workspace:
        fresh = workspace / "tree"
        for path, entry in manifest.files.items():
            if not blobs.holds(home, entry):
                problem = f"{path} of the {manifest.kind} {manifest.digest[:12]} is gone or cut short"
                raise RegistryError(problem, "run the recipe that made it again")
            target = fresh / path
            target.parent.mkdir(parents=True, exist_ok=True)
            filesystems.link(blobs.location(home, entry.sha256), target)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not _is_whole(home, manifest, folder):
            folder.rename(workspace / "broken")
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster
            if not _is_whole(home, manifest, folder):
                raise
    return folder


def _is_whole(home: Path, manifest: Manifest, folder: Path) -> bool:
    found = {path.relative_to(folder).as_posix(): path.lstat() for path in files.walk(folder)}
    if found.keys() != manifest.files.keys():
        return False
    for path, entry in manifest.files.items():
        try:
            blob = blobs.location(home, entry.sha256).stat()
        except FileNotFoundError:
            return False
        same_bytes = os.path.samestat(found[path], blob) or found[path].st_mtime_ns == blob.st_mtime_ns  # or a copy
        if not (same_bytes and found[path].st_size == blob.st_size == entry.size):
            return False
    return True
