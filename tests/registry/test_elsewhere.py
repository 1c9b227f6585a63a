"""A registry on another disk, on one without hard links, or in a folder of the network."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.registry.mounts import free, mounted
from tests.registry.test_processes import start
from tuneforge_registry import Registry, RegistryError, filesystems, locks

Write = Callable[..., Path]
CONTENT = {"config.json": b"{}", "deep/weights": random.Random(0).randbytes(300_000)}


def no_links(self: Path, target: Path) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("kind", ["tmpfs", "ext4", "btrfs", pytest.param("xfs", marks=pytest.mark.slow)])
@pytest.mark.parametrize("links", [True, False])
def test_everything_works_on_another_disk(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, kind: str, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    with mounted(tmp_path / "disk", kind) as disk:
        assert filesystems.kind(disk / "home" / "to be made") == kind
        registry = Registry(disk / "home")
        digest = registry.put(write(CONTENT), "model")
        assert registry.tag("bot", digest, alias="production") == 1
        tree = registry.tree(digest)
        assert {path: (tree / path).read_bytes() for path in CONTENT} == CONTENT
        stream = io.BytesIO()
        registry.export_to(stream, [digest])
        stream.seek(0)
        other = Registry(tmp_path / "other")
        other.import_from(stream)
        stream.seek(0)
        assert registry.import_from(stream).new == ()
        registry.put(write({"gone": b"x"}), "model")
        registry.gc(dry_run=False, older_than=timedelta(0))
        assert {stored.digest for stored in registry.artifacts()} == {digest}
        assert registry.verify() == other.verify() == []
        assert (disk / "home" / "index.sqlite").exists(), "a disk of this machine keeps its index"


@pytest.mark.parametrize("kind", ["btrfs", pytest.param("xfs", marks=pytest.mark.slow)])
def test_blocks_are_shared_where_links_are_not_possible(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    with mounted(tmp_path / "disk", kind) as disk:
        registry = Registry(disk / "home")
        folder = write({"weights": random.Random(1).randbytes(20 << 20)}, disk / "made")
        before = free(disk)
        digest = registry.put(folder, "model")
        registry.tree(digest)
        assert before - free(disk) < 5 << 20
        assert registry.verify() == []


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's cache folder; every folder is taken to be in the network."""
    monkeypatch.setattr(filesystems, "kind", lambda path: "nfs4")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    filesystems.has_locks.cache_clear()
    yield tmp_path / "cache" / "tuneforge"
    filesystems.has_locks.cache_clear()


def test_the_index_of_a_folder_of_the_network_is_the_users_own(
    tmp_path: Path, write: Write, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        registry = Registry(tmp_path / name)
        digest = registry.put(write({"a": name.encode()}), "model")
        assert [stored.digest for stored in registry.artifacts()] == [digest]
        assert not list(registry.home.glob("index*"))
    assert len(list(network.glob("index-*.sqlite"))) == 2
    registry.reindex()
    assert len(registry.artifacts()) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert len(registry.artifacts()) == 1, "in memory, where no cache can be made"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_of_the_system_files_are_the_locks(
    tmp_path: Path, write: Write, network: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    registry = Registry(tmp_path / "home")
    with registry.run_lock("alive"):
        with pytest.raises(TimeoutError):
            registry.run_lock("alive").acquire(timeout=0)
        assert locks.held(registry.home, "run-alive")
        digest = registry.put(write(CONTENT), "model")
        registry.gc(dry_run=False, older_than=timedelta(0))
        assert digest in registry, "what was put since a lock is held stays"
    assert not locks.held(registry.home, "run-alive")
    child = os.fork()
    if child == 0:
        lock, room = registry.run_lock("killed"), registry.workspace()
        lock.acquire()
        (room.__enter__() / "half").write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (registry.home / "locks" / "run-killed.lock").exists()
    assert not locks.held(registry.home, "run-killed")
    registry.gc(dry_run=False, older_than=timedelta(0))
    assert list((registry.home / "tmp").iterdir()) == []


def test_a_lock_that_a_machine_has_left_is_told(
    tmp_path: Path, write: Write, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(locks, "_LONGEST", 0.05)
    registry = Registry(tmp_path / "home")
    digest = registry.put(write(CONTENT), "model")
    (registry.home / "locks" / "_store.lock").write_text("123\nanother-machine\n")
    with pytest.raises(RegistryError, match="may have died on another machine"):
        registry.tag("bot", digest)
    (registry.home / "locks" / "_store.lock").unlink()
    assert registry.tag("bot", digest) == 1


@pytest.mark.slow
def test_processes_take_turns_without_locks_of_the_system(tmp_path: Path) -> None:
    home = tmp_path / "home"
    crowd = [start("tag", home, worker, "no-locks") for worker in range(3)]
    (tmp_path / "go").touch()
    for process in crowd:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    registry = Registry(home)
    assert sorted(registry.names()["crowded"].versions) == list(range(1, 31))
    assert registry.verify() == []
