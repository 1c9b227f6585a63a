"""What was committed outlives a power cut, not only the death of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crashes.power import Disk, watched
from tuneforge_registry import Registry

Put = Callable[..., str]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Disk]:
    with watched(monkeypatch, tmp_path) as disk:
        yield disk


def test_all_that_is_committed_is_on_disk(registry: Registry, put: Put, disk: Disk) -> None:
    digest = put({"weights": b"model", "deep/down/config": b"{}"})
    registry.remember("key", digest)
    registry.tag("name", digest, alias="production")
    registry.write_run("run", {"steps": []})
    rooms = [registry.home / room for room in ("blobs", "manifests", "steps", "refs", "runs")]
    assert disk.may_be_lost(*rooms) == []
    assert disk.hollow == disk.unlisted == []


def test_a_tree_of_copies_is_not_taken_for_whole_after_a_power_cut(
    registry: Registry, put: Put, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no hard links a copy counts as whole by its size and time, which a file of zeros may have too."""

    def no_link(path: Path, target: Path) -> None:
        raise OSError("no links here")

    digest = put("content")
    monkeypatch.setattr(Path, "hardlink_to", no_link)
    registry.tree(digest)
    assert disk.hollow == []
