"""The record of one form of a model, as a kind of artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneforge import Artifact
from tuneforge.artifacts import read_json


class Probe(Artifact):
    """What one form of a model says: probe.json, and the numbers to it in numbers.safetensors."""

    kind = "probe"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from (name for name in ("probe.json", "numbers.safetensors") if not (path / name).exists())

    @classmethod
    def summary(cls, path: Path) -> dict[str, Any]:
        known = read_json(path / "probe.json")
        return {name: known[name] for name in ("subject", "kind", "form") if name in known}
