"""The JSON documents by which the Hub describes repositories, files and commits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import yaml

from tuneforge_registry import FileEntry, RegistryError, blobs
from tuneforge_registry_server.repositories import Repository, Version

_CARD = 2 << 20
"""Bytes of a README.md or config.json that are looked into for what they tell."""
_METADATA = 100_000
_CONFIG = ("architectures", "model_type", "quantization_config")


def repository(
    found: Repository, version: Version, *, blob_sizes: bool = False, siblings: bool = True
) -> dict[str, Any]:
    """What `/api/models/{id}` and `/api/datasets/{id}` tell of one version."""
    card = _card(found, version)
    document: dict[str, Any] = {
        "_id": hashlib.sha256(found.name.encode()).hexdigest()[:24],
        "id": found.name,
        "author": found.name.partition("/")[0] if "/" in found.name else None,
        "sha": version.commit,
        "private": True,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": tags(version, card),
        "createdAt": moment(found.created),
        "lastModified": moment(version.made),
        "cardData": card or None,
        "usedStorage": version.manifest.size if version.manifest else 0,
    }
    if found.type == "model":
        document["modelId"] = found.name
        document["pipeline_tag"] = card.get("pipeline_tag")
        document["library_name"] = card.get("library_name")
        config = _json(found, version, "config.json")
        document["config"] = {key: config[key] for key in _CONFIG if key in config} or None
    if siblings:
        document["siblings"] = [_sibling(path, entry, blob_sizes) for path, entry in version.files.items()]
    return document


def tags(version: Version, card: Mapping[str, Any]) -> list[str]:
    """What a repository can be found by: its kind, and what its card says."""
    found = [f"kind:{version.manifest.kind}"] if version.manifest else []
    for key in ("tags", "library_name", "pipeline_tag"):
        value = card.get(key)
        found += [str(tag) for tag in (value if isinstance(value, list) else [value]) if tag]
    for key, prefix in (("license", "license"), ("base_model", "base_model"), ("datasets", "dataset")):
        value = card.get(key)
        found += [f"{prefix}:{tag}" for tag in (value if isinstance(value, list) else [value]) if tag]
    if any(path.endswith(".gguf") for path in version.files):
        found.append("gguf")
    if any(path.endswith(".safetensors") for path in version.files):
        found.append("safetensors")
    return list(dict.fromkeys(found))


def file(path: str, entry: FileEntry, commit: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A file of a tree; `commit` is the one that brought it."""
    pointer = _pointer(entry)
    document: dict[str, Any] = {
        "type": "file",
        "oid": git_oid(pointer),
        "size": entry.size,
        "path": path,
        "lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": len(pointer)},
    }
    if commit is not None:
        document["lastCommit"] = commit
    return document


def folder(
    path: str, inside: Iterable[tuple[str, FileEntry]], commit: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    content = "".join(f"{name} {entry.sha256}\n" for name, entry in inside)
    document: dict[str, Any] = {"type": "directory", "oid": git_oid(content.encode()), "size": 0, "path": path}
    if commit is not None:
        document["lastCommit"] = commit
    return document


def commits(history: Iterator[Version]) -> Iterator[dict[str, Any]]:
    for version in history:
        yield {**commit(version), "message": version.message, "authors": [{"user": "tuneforge"}]}


def commit(version: Version) -> dict[str, Any]:
    return {"id": version.commit, "title": version.title, "date": moment(version.made)}


def moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def _sibling(path: str, entry: FileEntry, sizes: bool) -> dict[str, Any]:
    if not sizes:
        return {"rfilename": path}
    pointer = _pointer(entry)
    lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": len(pointer)}
    return {"rfilename": path, "size": entry.size, "blobId": git_oid(pointer), "lfs": lfs}


def _pointer(entry: FileEntry) -> bytes:
    """The text that stands for a large file in git (github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{entry.sha256}\nsize {entry.size}\n".encode()


def git_oid(content: bytes) -> str:
    """What git calls the content of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def front_matter(text: str) -> dict[str, Any]:
    """The YAML at the beginning of a card, between two lines of `---`; empty if there is none. ValueError if broken."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in (line.strip() for line in lines[1:]):
        return {}
    end = next(number for number, line in enumerate(lines[1:], 1) if line.strip() == "---")
    metadata = "\n".join(lines[1:end])
    if len(metadata) > _METADATA:  # which takes a second to read
        raise ValueError(f"the metadata of the card has more than {_METADATA} letters")
    try:
        found = yaml.load(metadata, _Plain)
        # As JSON has it: dates become texts.
        found = json.loads(json.dumps(found, default=str))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the metadata of the card is not YAML: {error}") from None
    if found is not None and not isinstance(found, dict):
        raise ValueError("the metadata of the card is not a mapping")
    return found or {}


class _Plain(yaml.SafeLoader):
    """Without aliases: a few lines of them can stand for more than the memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("an alias")
        return super().compose_node(parent, index)


def _card(found: Repository, version: Version) -> dict[str, Any]:
    try:
        return front_matter(_text(found, version, "README.md"))
    except ValueError:  # shown as it is; who writes one is told by validate-yaml
        return {}


def _json(found: Repository, version: Version, path: str) -> dict[str, Any]:
    try:
        content = json.loads(_text(found, version, path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(found: Repository, version: Version, path: str) -> str:
    entry = version.files.get(path)
    if entry is None or entry.size > _CARD:
        return ""
    try:
        return blobs.location(found.registry.home, entry.sha256).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, RegistryError):
        return ""
