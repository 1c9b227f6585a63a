"""Removing one artifact at once, with the space that is its alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tuneforge_registry import blobs, files, gc, locks, manifests, refs, steps, trees
from tuneforge_registry.errors import RegistryError


@dataclass(frozen=True)
class Removal:
    """What to remove an artifact means: the bytes that it frees, and why it is refused, if it is."""

    digest: str
    bytes: int
    bases: tuple[str, ...]
    """Digests of the artifacts that sit on it."""
    names: tuple[str, ...]
    """Versions of names that stand for it, such as `orders@v3`."""
    running: bool
    """Whether a run, or another process at work, has used it since it began."""

    def refuse(self) -> None:
        """RegistryError if something still needs it."""
        problem = f"the artifact {self.digest[:12]} is needed"
        if self.bases:
            raise RegistryError(f"{problem}: {self._told(self.bases)} on it", "remove what sits on it first")
        if self.names:
            raise RegistryError(f"{problem}: it is {', '.join(self.names)}", "remove those first")
        if self.running:
            raise RegistryError(f"{problem}: something that runs now has used it", "wait until it ends")

    @staticmethod
    def _told(digests: tuple[str, ...]) -> str:
        more = f" and {len(digests) - 5} more" if len(digests) > 5 else ""
        return ", ".join(digest[:12] for digest in digests[:5]) + more + (" sits" if len(digests) == 1 else " sit")


def artifact(home: Path, digest: str, dry_run: bool) -> Removal:
    """Remove an artifact, its place in the step cache and what of its files no other has; or only tell.

    RegistryError if something needs it, unless `dry_run`.
    """
    with locks.store(home):
        manifest = manifests.read(home, digest)
        shared, bases = set[str](), []
        for other in manifests.digests(home):
            if other != digest:
                found = manifests.read(home, other)  # one that is damaged may share files, or sit on it: not now, then
                shared |= {entry.sha256 for entry in found.files.values()}
                bases += [other] if found.base == digest else []
        keys = [key for key in files.listing(home / "steps") if steps.recorded(home, key) == digest]
        alone = {entry.sha256: entry.size for entry in manifest.files.values() if entry.sha256 not in shared}
        marks = [manifests.location(home, digest), trees.location(home, digest)]
        marks += [steps.location(home, key) for key in keys]
        names = [
            f"{name}@v{number}"
            for name, stands_for in refs.names(home).items()
            for number, of in stands_for.versions.items()
            if of == digest
        ]
        running = gc.in_use(home, marks)
        removal = Removal(digest, sum(alone.values()), tuple(bases), tuple(names), running)
        if not dry_run:
            removal.refuse()
            for key in keys:
                steps.location(home, key).unlink(missing_ok=True)
            manifests.location(home, digest).unlink()
            files.sync_folder(manifests.location(home, digest).parent)
            if trees.location(home, digest).exists():
                shutil.rmtree(trees.location(home, digest))
            for sha256 in alone:
                blobs.location(home, sha256).unlink(missing_ok=True)
    return removal
