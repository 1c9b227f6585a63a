"""What the core's tests share: a bench to try recipes of toy methods on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.bench import Bench, new


@pytest.fixture
def new_bench(tmp_path: Path) -> Callable[[str], Bench]:
    def make(name: str) -> Bench:
        folder = tmp_path / name
        folder.mkdir()
        return new(folder)

    return make


@pytest.fixture
def bench(new_bench: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = new_bench("bench")
    monkeypatch.chdir(made.folder)
    return made
