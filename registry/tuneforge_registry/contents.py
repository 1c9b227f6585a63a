"""What an export tells besides the bytes: artifacts, those they came from, names, and records of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuneforge_registry import files, notes, refs, runs, untrusted
from tuneforge_registry.archive import broken
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.manifests import FileEntry, Manifest, check_digest
from tuneforge_registry.notes import About

_FORMAT = 1
_VERSIONS = 1_000_000_000
_TAGS = 1_000  # of a version


@dataclass(frozen=True)
class Named:
    """Of one name, what belongs to the export: versions, aliases of these, and what is said of them (tags, note)."""

    versions: Mapping[int, str]
    aliases: Mapping[str, int] = field(default_factory=dict)
    about: Mapping[int, About] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """`asked` was exported; `artifacts` come in full; of `ancestors` only the manifests, as lineage tells of them."""

    asked: tuple[str, ...]
    artifacts: Mapping[str, Manifest]
    ancestors: Mapping[str, Manifest]
    names: Mapping[str, Named]
    runs: Mapping[str, Mapping[str, Any]]

    def blobs(self) -> dict[str, int]:
        """Sizes by sha256, in the order of the archive."""
        entries = (entry for manifest in self.artifacts.values() for entry in manifest.files.values())
        return dict(sorted((entry.sha256, entry.size) for entry in entries))

    def text(self) -> bytes:
        """The same for the same content. Records of runs are as they came, to the order of their keys."""
        document = {
            "format": _FORMAT,
            "asked": sorted(self.asked),
            "artifacts": _manifest_documents(self.artifacts),
            "ancestors": _manifest_documents(self.ancestors),
            "names": {name: _named_document(named) for name, named in sorted(self.names.items())},
            "runs": dict(sorted(self.runs.items())),
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _manifest_documents(told: Mapping[str, Manifest]) -> dict[str, Any]:
    return {digest: json.loads(manifest.text) for digest, manifest in sorted(told.items())}


def _named_document(named: Named) -> dict[str, Any]:
    return {
        "versions": {str(number): digest for number, digest in sorted(named.versions.items())},
        "aliases": dict(sorted(named.aliases.items())),
        "about": {str(number): notes.document(about) for number, about in sorted(named.about.items())},
    }


def read(text: bytes) -> Contents:
    """The contents that `text` tells; RegistryError for anything in it that cannot be, or must not be taken in."""
    try:
        document = json.loads(text.decode())
        if document["format"] != _FORMAT:
            fix = "import it with the version of tuneforge that made it, or a newer one"
            raise RegistryError(f"the file is an export of format {str(document['format'])[:20]!r}", fix)
        artifacts = {digest: _manifest(digest, fields) for digest, fields in document["artifacts"].items()}
        contents = Contents(
            tuple(dict.fromkeys(document["asked"])),
            artifacts,
            {digest: _manifest(digest, fields) for digest, fields in document["ancestors"].items()},
            {name: _named(name, fields, artifacts) for name, fields in document["names"].items()},
            {run_id: _run(run_id, record) for run_id, record in document["runs"].items()},
        )
        unknown = [digest for digest in contents.asked if digest not in artifacts]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise broken(f"what it tells has another form ({type(error).__name__})") from None
    if unknown or not contents.asked:
        raise broken("it does not hold what it is an export of")
    sizes: dict[str, int] = {}
    for manifest in artifacts.values():
        for path, entry in manifest.files.items():
            if sizes.setdefault(entry.sha256, entry.size) != entry.size:
                raise broken(f"{path!r} is told to have two sizes")
    return contents


def _manifest(digest: str, fields: Mapping[str, Any]) -> Manifest:
    check_digest(digest)
    entries = {path: _entry(entry["sha256"], entry["size"]) for path, entry in fields["files"].items()}
    untrusted.refuse(list(untrusted.name_problems(entries)))
    base = fields["base"]
    if base is not None:
        check_digest(base)
    manifest = Manifest(files.plain("a kind", fields["kind"]), base, entries)
    if manifest.digest != digest:
        raise broken(f"the artifact {digest[:12]} is not what its digest says")
    return manifest


def is_acceptable(manifest: Manifest) -> bool:
    """Whether an import would take it: one may be made here with names that another system cannot hold."""
    try:
        return bool(_manifest(manifest.digest, json.loads(manifest.text)))
    except RegistryError:
        return False


def _entry(sha256: str, size: int) -> FileEntry:
    check_digest(sha256)
    if type(size) is not int or not 0 <= size < 1 << 62:
        raise ValueError(size)
    return FileEntry(sha256, size)


def _named(name: str, fields: Mapping[str, Any], artifacts: Mapping[str, Manifest]) -> Named:
    refs.check_name(name)
    versions = {_number(number): digest for number, digest in fields["versions"].items()}
    aliases = {_alias(alias): _number(str(number)) for alias, number in fields["aliases"].items()}
    about = {_number(number): _about(said) for number, said in fields["about"].items()}
    if not set(versions.values()) <= artifacts.keys() or not {*aliases.values(), *about} <= versions.keys():
        raise broken(f"the name {name} stands for what is not in it")
    return Named(versions, aliases, about)


def _alias(alias: str) -> str:
    refs.check_alias(alias)
    return alias


def _number(text: str) -> int:
    number = int(text)
    if str(number) != text or not 0 < number <= _VERSIONS:
        raise ValueError(text)
    return number


def _about(said: Any) -> About:
    good = isinstance(said, dict) and said.keys() == {"note", "tags"} and isinstance(said["note"], str)
    good = good and isinstance(said["tags"], list) and all(isinstance(tag, str) for tag in said["tags"])
    if not good or len(said["tags"]) > _TAGS:
        raise ValueError("about")
    notes.check(said["tags"], said["note"])
    return About(tuple(sorted(set(said["tags"]))), said["note"])


def _run(run_id: str, record: Any) -> Mapping[str, Any]:
    runs.check_id(run_id)
    if not runs.is_record(record):
        raise TypeError(run_id)
    runs.text(record).encode()  # a letter that UTF-8 has not would be met when half is written
    return record
