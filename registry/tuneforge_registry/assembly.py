"""An artifact out of files that are here already and files that were hashed while they came in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tuneforge_registry import blobs, filesystems, manifests
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.manifests import FileEntry, Manifest


def assemble(home: Path, kind: str, base: str | None, files: Mapping[str, FileEntry], fresh: Mapping[str, Path]) -> str:
    """Commit the artifact that has `files`, and give its digest.

    `fresh` are files by the sha256 of their content, which the caller has made sure of, on the registry's filesystem;
    they stay. RegistryError if a file is neither fresh nor here.
    """
    from tuneforge_registry import locks

    manifest = Manifest(kind, base, files)
    with locks.workspace(home) as staging:
        for sha256, source in fresh.items():
            filesystems.link(source, staging / sha256)
            (staging / sha256).chmod(0o444)
            with (staging / sha256).open("rb") as file:
                os.fsync(file.fileno())
        with locks.store(home):
            if base is not None:
                manifests.read(home, base)
            for path, entry in manifest.files.items():
                if entry.sha256 not in fresh and not blobs.holds(home, entry):
                    raise RegistryError(f"the bytes of {path} are not in the registry", "bring them in first")
            blobs.commit(home, staging)
            manifests.commit(home, manifest)
    return manifest.digest
