"""gc takes what nothing needs, all of it, and never anything else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from tuneforge_registry import Registry, RegistryError

Put = Callable[..., str]
NOW = timedelta(0)


def age(registry: Registry, days: float = 2) -> None:
    """Make everything in the registry look `days` older than it is."""
    for path in [*registry.home.rglob("*"), registry.home]:
        then = path.lstat().st_mtime - days * 86400
        os.utime(path, (then, then), follow_symlinks=False)


def left(registry: Registry) -> set[str]:
    return {stored.digest for stored in registry.artifacts()}


def blobs(registry: Registry) -> int:
    return sum(path.is_file() for path in (registry.home / "blobs").rglob("*"))


def test_what_nothing_needs_goes_with_all_that_is_its_own(registry: Registry, put: Put) -> None:
    kept = put({"shared": b"shared", "own": b"kept"})
    gone = put({"shared": b"shared", "own": b"gone!"})
    registry.tag("kept", kept)
    registry.remember("kept-key", kept)
    registry.remember("gone-key", gone)
    registry.tree(gone)
    age(registry)
    before = {path: path.lstat().st_mtime for path in registry.home.rglob("*") if path.parent.name != "locks"}

    told = registry.gc(dry_run=True)
    after = {path: path.lstat().st_mtime for path in registry.home.rglob("*") if path.parent.name != "locks"}
    assert after == before, "a dry run changes nothing"
    assert sorted(item.what for item in told.garbage) == ["artifact", "blob", "step", "tree"]
    assert {item.path for item in told.garbage} >= {f"manifests/{gone}.json", "steps/gone-key", f"trees/{gone}"}
    manifest_size = (registry.home / "manifests" / f"{gone}.json").stat().st_size
    assert told.bytes == manifest_size + len(gone + "\n") + len(b"gone!")

    assert registry.gc(dry_run=False) == told
    assert left(registry) == {kept}
    assert blobs(registry) == 2
    assert registry.result_of("kept-key") == kept
    assert registry.result_of("gone-key") is None
    assert not (registry.home / "trees" / gone).exists()
    assert registry.verify() == []
    assert registry.gc(dry_run=False).garbage == ()


def test_every_version_and_every_base_of_a_name_stays(registry: Registry, put: Put) -> None:
    base = put("base")
    middle = put("middle", kind="adapter", base=base)
    top = put("top", kind="adapter", base=middle)
    old = put("old")
    registry.tag("bot", old)
    registry.tag("bot", top)
    age(registry)
    assert registry.gc(dry_run=False).garbage == ()
    assert left(registry) == {base, middle, top, old}


def test_what_a_recent_run_names_stays(registry: Registry, put: Put) -> None:
    made, used, old = put("made"), put("used"), put("old")
    registry.write_run("old", {"steps": [{"name": "a", "digest": old}]})
    age(registry)
    registry.write_run("new", {"steps": [{"name": "a", "digest": made, "inputs": {"data": [used]}}, {"name": "b"}]})
    registry.gc(dry_run=False)
    assert left(registry) == {made, used}
    assert set(registry.runs()) == {"old", "new"}, "provenance is kept"


@pytest.mark.parametrize("use", ["put", "result_of", "remember", "tree"])
def test_what_was_used_lately_stays(registry: Registry, put: Put, use: str) -> None:
    uses: dict[str, Callable[[], object]] = {
        "put": lambda: put("one", base=base),
        "result_of": lambda: registry.result_of("key"),
        "remember": lambda: registry.remember("new-key", digest),
        "tree": lambda: registry.tree(digest),
    }
    base = put("base")
    digest = put("one", base=base)
    other = put("other")
    registry.remember("key", digest)
    registry.tree(digest)
    age(registry)
    uses[use]()
    registry.gc(dry_run=False)
    assert left(registry) == {digest, base}
    assert other not in registry


def test_how_old_is_for_the_caller_to_say(registry: Registry, put: Put) -> None:
    put("one")
    age(registry, days=5)
    assert registry.gc(dry_run=False, older_than=timedelta(days=6)).garbage == ()
    assert len(registry.gc(dry_run=False, older_than=timedelta(days=4)).garbage) == 2
    put("fresh")
    assert registry.gc(dry_run=False).garbage == ()
    registry.gc(dry_run=False, older_than=NOW)
    assert left(registry) == set()


def test_what_was_used_since_a_held_lock_was_taken_stays(registry: Registry, put: Put) -> None:
    cached, idle = put("cached"), put("idle")
    registry.remember("key", cached)
    age(registry)
    with registry.lock("run-1"):
        registry.result_of("key")
        made = put("made")
        for path in (registry.home / "locks").iterdir():
            assert path.stat().st_mtime > time.time() - 60
        age(registry, days=3)  # the run goes on for three days
        registry.gc(dry_run=False, older_than=NOW)
        assert left(registry) == {cached, made}
        assert idle not in registry
    registry.gc(dry_run=False, older_than=NOW)
    assert left(registry) == set()


def test_workspaces_go_once_their_process_is_dead(registry: Registry, put: Put) -> None:
    put("one")
    with registry.workspace() as folder:
        (folder / "file").write_bytes(b"12345")
        age(registry)
        registry.gc(dry_run=False)
        assert (folder / "file").exists()
        lock = folder.with_suffix(".lock")
        assert lock.exists()
    assert not folder.exists()
    assert not lock.exists()

    child = os.fork()
    if child == 0:
        with registry.workspace() as folder:
            (folder / "file").write_bytes(b"12345")
            os._exit(0)
    os.waitpid(child, 0)
    assert len(list((registry.home / "tmp").iterdir())) == 2
    assert registry.gc(dry_run=True).bytes == 5
    registry.gc(dry_run=False)
    assert list((registry.home / "tmp").iterdir()) == []


def test_small_files_being_written_are_left_alone(registry: Registry, put: Put) -> None:
    put("one")
    fresh, old = registry.home / "tmp" / "1.new", registry.home / "tmp" / "2.new"
    fresh.touch()
    old.touch()
    os.utime(old, (1, 1))
    registry.gc(dry_run=False, older_than=NOW)
    assert fresh.exists()
    assert not old.exists()


def test_old_scratch_goes_and_resumed_scratch_stays(registry: Registry, put: Put) -> None:
    for key in ("abandoned", "resumed", "written"):
        (registry.scratch(key) / "checkpoint").mkdir()
        (registry.scratch(key) / "checkpoint" / "weights").write_bytes(b"12345")
    age(registry)
    assert (registry.scratch("resumed") / "checkpoint" / "weights").exists()
    (registry.home / "scratch" / "written" / "checkpoint" / "weights").write_bytes(b"54321")
    (scratch,) = registry.gc(dry_run=False).garbage
    assert (scratch.what, scratch.path, scratch.bytes) == ("scratch", "scratch/abandoned", 5)
    assert {path.name for path in (registry.home / "scratch").iterdir()} == {"resumed", "written"}


def test_old_trees_go_but_not_of_what_has_a_name(registry: Registry, put: Put) -> None:
    named, base = put("named", base=put("base")), put("base")
    registry.tag("named", named)
    registry.tree(named)
    registry.tree(base)
    age(registry)
    (tree,) = registry.gc(dry_run=False).garbage
    assert (tree.what, tree.path, tree.bytes) == ("tree", f"trees/{base}", 0)
    assert (registry.tree(base) / "weights").read_bytes() == b"base"


def test_what_a_killed_put_left_goes(registry: Registry, put: Put) -> None:
    digest = put("one")
    registry.tag("one", digest)
    orphan = registry.home / "blobs" / "00" / ("0" * 64)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"12345")
    (blob,) = registry.gc(dry_run=False).garbage
    assert (blob.what, blob.bytes) == ("blob", 5)
    assert not orphan.exists()


@pytest.mark.parametrize("place", ["manifests/{}.json", "refs/bot/v1", "runs/run.json"])
def test_nothing_goes_while_damage_leaves_in_doubt_what_is_wanted(registry: Registry, put: Put, place: str) -> None:
    digest = put("one")
    put("two")
    registry.tag("bot", digest)
    age(registry)
    registry.write_run("run", {"steps": []})
    (registry.home / place.format(digest)).write_text("damaged")
    before = sorted(registry.home.rglob("*"))
    with pytest.raises(RegistryError, match="damaged"):
        registry.gc(dry_run=False)
    assert sorted(registry.home.rglob("*")) == before


def test_tidying_takes_what_killed_processes_left_and_nothing_else(registry: Registry, put: Put) -> None:
    kept = put("content")
    registry.remember("key", kept)
    registry.scratch("key-env").joinpath("checkpoint").write_text("x")
    for name in ("run-killed", "step-killed"):
        registry.lock(name).acquire().lock.release()
    with registry.workspace() as dead:
        (dead / "out").mkdir()
        (dead / "out" / "half").write_text("x")
        guard = dead.with_suffix(".lock")
        beside = guard.with_name("copy")
        dead.rename(beside)
    beside.rename(dead)  # a killed process leaves both, and holds neither
    guard.touch()
    with registry.run_lock("lives"), registry.workspace() as living:
        (living / "out").write_text("x")
        registry.tidy()
        assert (living / "out").exists()
        assert {path.name for path in (registry.home / "tmp").iterdir()} == {living.name, f"{living.name}.lock"}
        locks = {path.name for path in (registry.home / "locks").iterdir()}
    assert locks == {"_store.lock", "run-lives.lock", "step-killed.lock"}
    assert (registry.home / "scratch" / "key-env" / "checkpoint").exists()
    assert registry.result_of("key") == kept
