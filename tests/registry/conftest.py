from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tuneforge_registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes files into a new folder (or the one given) and gives the folder."""
    folders = iter(range(1000))

    def write_files(content: Mapping[str, bytes], folder: Path | None = None) -> Path:
        folder = folder or tmp_path / f"written-{next(folders)}"
        for path, data in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return folder

    return write_files


@pytest.fixture
def put(registry: Registry, write: Callable[..., Path]) -> Callable[..., str]:
    """Puts files, given as a mapping or as the text of a single one, and gives the digest."""

    def put_files(content: Mapping[str, bytes] | str, kind: str = "model", base: str | None = None) -> str:
        files = {"weights": content.encode()} if isinstance(content, str) else content
        return registry.put(write(files), kind, base)

    return put_files
