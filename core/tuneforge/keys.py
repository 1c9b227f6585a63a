"""The key of a step: what its result depends on, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .sources import Digests
from .stages import Method


def canonical(value: Any) -> bytes:
    """The one way to write a JSON value down."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def step_key(
    method: Method,
    seed: int,
    inputs: Mapping[str, Sequence[str]],
    digests: Digests,
    code: str | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> str:
    """sha256 over stage, method, version, seed, the configuration that differs from the defaults, and input digests.

    `code` is the digest of a local plugin's code; `lineage` counts for methods that read it. Raises OSError when
    something that the configuration points at is not there.
    """
    content: dict[str, Any] = {
        "stage": method.stage,
        "method": method.name,
        "version": method.version,
        "seed": seed,
        "config": _dump(method, digests.of),
        "inputs": {name: list(given) for name, given in inputs.items()},
    }
    if code is not None:
        content["code"] = code
    if lineage is not None:
        content["lineage"] = lineage
    return hashlib.sha256(canonical(content)).hexdigest()


def shown_config(method: Method, digests: Digests) -> dict[str, Any]:
    """Every option that counts, defaults included, as records and model cards show it: no path of this machine."""

    def name(path: Path) -> str:
        return f"{path.name}@{digests.of(path)[:12]}"

    return _dump(method, name, defaults=True)


def _dump(method: Method, digest: Callable[[Path], str], defaults: bool = False) -> dict[str, Any]:
    unreadable: list[OSError] = []

    def of(path: Path) -> str:
        try:
            return digest(path)
        except OSError as error:  # pydantic would wrap it up
            unreadable.append(error)
            return ""

    context = {"keyed": True, "defaults": defaults, "digest": of}
    dumped: dict[str, Any] = method.model_dump(mode="json", context=context)
    if unreadable:
        raise unreadable[0]
    return dumped
