"""A manifest says what an artifact is; its sha256 is the artifact's digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tuneforge_registry import files
from tuneforge_registry.errors import RegistryError

ANCESTORS = "ancestors"
"""The room of manifests of artifacts that are not here: provenance, as records of runs are, and never collected."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """One file's content: its sha256 in hex, its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What an artifact is: its kind, the digest of the artifact it sits on (`base`), and its files by relative path.

    Paths are posix, sorted, and stay inside the folder: RegistryError for one that does not.
    """

    kind: str
    base: str | None
    files: Mapping[str, FileEntry]

    def __post_init__(self) -> None:
        if not self.kind:
            raise RegistryError("an artifact needs a kind", "name one, such as 'model'")
        if not self.files:
            raise RegistryError(f"a {self.kind} without files", "an artifact holds at least one file")
        for path, entry in self.files.items():
            check_path(path)
            check_digest(entry.sha256)
        object.__setattr__(self, "files", dict(sorted(self.files.items())))

    @cached_property
    def text(self) -> str:
        """The canonical JSON: what is hashed, and what is stored."""
        entries = {path: {"sha256": entry.sha256, "size": entry.size} for path, entry in self.files.items()}
        content = {"kind": self.kind, "base": self.base, "files": entries}
        return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return sum(entry.size for entry in self.files.values())


def check_path(path: str) -> None:
    """RegistryError unless `path` names a file inside a folder, on every system, in UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise RegistryError(f"the file name {path!r} is not UTF-8", "rename the file") from None
    if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path or "\0" in path:
        raise RegistryError(f"the path {path!r} is not a plain relative one", "rename the file")


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str) -> None:
    if not is_digest(text):
        raise RegistryError(f"{text!r} is not a digest", "a digest is 64 hexadecimal digits")


def location(home: Path, digest: str) -> Path:
    return home / "manifests" / f"{digest}.json"


def exists(home: Path, digest: str) -> bool:
    return is_digest(digest) and location(home, digest).is_file()


def digests(home: Path) -> list[str]:
    """Every artifact's digest, sorted."""
    stems = (name.removesuffix(".json") for name in files.listing(home / "manifests"))
    return [stem for stem in stems if is_digest(stem)]


def read(home: Path, digest: str) -> Manifest:
    """The manifest of `digest`; RegistryError if it is not there, or not what its name says."""
    check_digest(digest)
    try:
        content = location(home, digest).read_bytes()
    except FileNotFoundError:
        raise RegistryError(
            f"no artifact {digest[:12]} in {home}", "see `tuneforge registry ls`, or run the recipe that makes it"
        ) from None
    if manifest := parse(content, digest):
        return manifest
    raise RegistryError(
        f"the manifest {location(home, digest)} is damaged", "delete it and run the recipe that made it again"
    )


def parse(content: bytes, digest: str) -> Manifest | None:
    """The manifest of `digest`, if that is what `content` is."""
    if hashlib.sha256(content).hexdigest() != digest:
        return None
    try:
        fields = json.loads(content)
        entries = {path: FileEntry(entry["sha256"], entry["size"]) for path, entry in fields["files"].items()}
        return Manifest(fields["kind"], fields["base"], entries)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def told(home: Path, digest: str) -> Manifest | None:
    """The manifest of an artifact that is here, or of one that is not but came with another as its ancestor."""
    if exists(home, digest):
        return read(home, digest)
    try:
        return parse((home / ANCESTORS / f"{digest}.json").read_bytes(), digest) if is_digest(digest) else None
    except FileNotFoundError:
        return None


def commit(home: Path, manifest: Manifest) -> None:
    """Store a manifest whose blobs are stored. If it was there already, it is new again: for gc, and for the index."""
    files.replace(home, location(home, manifest.digest), manifest.text)
