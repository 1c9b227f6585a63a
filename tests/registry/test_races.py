"""What another process may do at the worst moment, made to happen there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tuneforge_registry import Registry, blobs, files, filesystems, gc, refs

Put = Callable[..., str]


def interrupt(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, meanwhile: Callable[[], object], after: bool = False
) -> None:
    """Let `meanwhile` happen once, right before (or after) the next call of a module's function."""
    function = getattr(module, name)
    pending = [meanwhile]

    def interrupted(*arguments: Any) -> Any:
        if after:
            result = function(*arguments)
        if pending:
            pending.pop()()
        return result if after else function(*arguments)

    monkeypatch.setattr(module, name, interrupted)


class Collector(threading.Thread):
    """gc that begins in the middle of something and has time to do its worst."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(daemon=True)
        self.registry = registry

    def run(self) -> None:
        self.registry.gc(dry_run=False)

    def interfere(self) -> None:
        self.start()
        self.join(0.3)


def test_gc_does_not_come_between_blobs_and_their_manifest(
    registry: Registry, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("earlier")
    collector = Collector(registry)
    interrupt(monkeypatch, blobs, "commit", collector.interfere, after=True)
    digest = put("content")
    collector.join()
    assert (registry.tree(digest) / "weights").read_bytes() == b"content"
    assert registry.verify() == []


def test_gc_does_not_come_between_an_artifact_and_its_name(
    registry: Registry, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put("content")
    os.utime(registry.home / "manifests" / f"{digest}.json", (1, 1))
    collector = Collector(registry)
    interrupt(monkeypatch, refs, "_add_version", collector.interfere)
    registry.tag("bot", digest)
    collector.join()
    assert registry.resolve("bot") == digest
    assert registry.verify() == []


def test_a_version_is_never_overwritten_even_where_locks_do_not_reach(
    registry: Registry, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = put("ours"), put("theirs")

    def elsewhere() -> None:
        (registry.home / "refs" / "bot").mkdir(parents=True)
        (registry.home / "refs" / "bot" / "v1").write_text(theirs)

    interrupt(monkeypatch, files, "create", elsewhere)
    assert registry.tag("bot", ours) == 2
    assert registry.names()["bot"].versions == {1: theirs, 2: ours}


@pytest.mark.parametrize("broken", [False, True])
def test_a_tree_that_another_process_finished_first_is_left_alone(
    registry: Registry, put: Put, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    digest = put({"a": b"1", "b": b"2"})
    if broken:
        (registry.tree(digest) / "a").unlink()
    theirs: list[int] = []
    interrupt(monkeypatch, filesystems, "link", lambda: theirs.append(registry.tree(digest).stat().st_ino))
    tree = registry.tree(digest)
    assert [tree.stat().st_ino] == theirs
    assert {path.name for path in tree.iterdir()} == {"a", "b"}
    assert list((registry.home / "tmp").iterdir()) == []


def test_gc_killed_between_any_two_removals_leaves_nothing_damaged(
    registry: Registry, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        base = put(f"base {number}")
        registry.tree(put(f"{number}", "adapter", put(f"middle {number}", "adapter", base)))
        registry.remember(f"key-{number}", base)
    remove = gc._remove
    removed = []

    def watched(*arguments: Any) -> Any:
        removed.append(remove(*arguments))
        assert registry.verify() == []
        return removed[-1]

    monkeypatch.setattr(gc, "_remove", watched)
    registry.gc(dry_run=False, older_than=timedelta(0))
    assert len(removed) > 30


def test_gc_minds_no_process_that_clears_away_its_own(
    registry: Registry, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("one")
    guard = registry.home / "tmp" / "0.lock"
    guard.touch()
    interrupt(monkeypatch, gc, "_remove", guard.unlink)
    assert [item.path for item in registry.gc(dry_run=False).garbage] == ["tmp/0.lock"]


def test_a_put_that_fails_can_be_tried_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)

    def full() -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        interrupt(patch, blobs, "commit", full)
        with pytest.raises(OSError, match="No space left"):
            registry.put(folder, "model")
    assert registry.artifacts() == []
    assert list((registry.home / "tmp").iterdir()) == []
    digest = registry.put(folder, "model")
    assert {path.name: path.read_text() for path in registry.tree(digest).iterdir()} == {"a": "a", "b": "b"}
