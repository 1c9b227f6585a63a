"""The index is derived: damaged, outdated or gone, the answers stay the same."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tuneforge_registry import Registry, Stored

Put = Callable[..., str]


@pytest.fixture
def filled(registry: Registry, put: Put) -> tuple[list[Stored], list[tuple[str, str]]]:
    """A registry with enough in it to fill several pages; what it answers."""
    base = put("base")
    for number in range(4):
        put(f"number {number}", kind="adapter", base=base)
    for number in range(3):
        steps = [{"name": f"s{step}", "digest": base} for step in range(50)]
        registry.write_run(f"r{number}", {"started": f"{number}", "steps": steps})
    answers = registry.artifacts(), registry.made_by(base)
    assert len(answers[0]) == 5
    assert answers[1] == [(f"r{number}", f"s{step}") for number in (2, 1, 0) for step in range(50)]
    return answers


def test_artifacts_are_listed_newest_first(registry: Registry, put: Put) -> None:
    base = put({"a": b"12", "b": b"345"})
    adapter = put("adapter", kind="adapter", base=base)
    os.utime(registry.home / "manifests" / f"{base}.json", (1, 1))
    first, second = registry.artifacts()
    assert (first.digest, first.kind, first.base, first.size) == (adapter, "adapter", base, 7)
    assert (second.digest, second.kind, second.base, second.size) == (base, "model", None, 5)
    assert abs(first.created.timestamp() - time.time()) < 60
    assert second.created.timestamp() == 1


def test_what_appears_and_vanishes_behind_its_back_is_seen(registry: Registry, put: Put) -> None:
    kept, lost, damaged = put("one"), put("two"), put("three")
    assert len(registry.artifacts()) == 3
    (registry.home / "manifests" / f"{lost}.json").unlink()
    (registry.home / "manifests" / f"{damaged}.json").write_text("{}")
    added = put("four")
    assert {stored.digest for stored in registry.artifacts()} == {kept, added}


def settle(registry: Registry) -> None:
    """Have the folders look as if nothing had changed in them for long, and the index know them so."""
    for folder in ("manifests", "runs", "refs"):
        (registry.home / folder).mkdir(exist_ok=True)
        os.utime(registry.home / folder, (1, 1))
    registry.artifacts()


def test_of_folders_that_did_not_change_no_file_is_looked_at(
    registry: Registry, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put("one")
    registry.write_run("r1", {"started": "1", "steps": [{"name": "s", "digest": digest}]})
    settle(registry)
    looked: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(Path(path).name) or scandir(path))
    assert [stored.digest for stored in registry.artifacts()] == [digest]
    assert registry.made_by(digest) == [("r1", "s")]
    assert set(looked) == {"refs"}
    looked.clear()
    registry.ask(lambda: [registry.artifacts() for _ in range(5)])
    assert looked == ["refs"], "once for all questions"


def test_what_happens_in_settled_folders_is_seen(registry: Registry, put: Put) -> None:
    first, second = put("one"), put("two")
    manifest = registry.home / "manifests" / f"{first}.json"
    os.utime(manifest, (1, 1))
    settle(registry)
    assert registry.artifacts()[1].created.timestamp() == 1
    put("one")
    assert registry.artifacts()[0].digest == first, "put again, it is the newest"
    settle(registry)
    registry.write_run("r1", {"started": "1", "steps": [{"name": "s", "digest": second}]})
    assert registry.made_by(second) == [("r1", "s")]
    settle(registry)
    registry.write_run("r1", {"started": "1", "steps": []})
    assert registry.made_by(second) == []
    settle(registry)
    manifest.unlink()
    assert [stored.digest for stored in registry.artifacts()] == [second]
    settle(registry)
    shutil.rmtree(registry.home / "manifests")
    assert registry.artifacts() == []


def test_questions_that_are_asked_together_survive_a_broken_index(registry: Registry, put: Put) -> None:
    digest = put("one")
    registry.tag("bot", digest)
    registry.artifacts()
    without_table(registry.home / "index.sqlite")
    found, named = registry.ask(lambda: (registry.artifacts(), registry.versions()))
    assert ([stored.digest for stored in found], [str(version) for version in named]) == ([digest], ["bot@v1"])


def garbage(index: Path) -> None:
    index.write_bytes(os.urandom(20_000))


def cut(index: Path) -> None:
    os.truncate(index, index.stat().st_size // 2)


def hole(index: Path) -> None:
    content = bytearray(index.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # the first page, with version and schema, stays
    index.write_bytes(content)


def other_version(index: Path) -> None:
    with closing(sqlite3.connect(index)) as connection:
        connection.executescript("drop table made; pragma user_version = 999")


def without_table(index: Path) -> None:
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("drop table artifacts")


def foreign(index: Path) -> None:
    index.unlink()
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("create table files (something)")


@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, garbage, cut, hole, other_version, without_table, foreign, lambda index: os.truncate(index, 0)],
)
def test_an_index_that_is_gone_or_broken_is_built_again(
    registry: Registry, filled: tuple[list[Stored], list[tuple[str, str]]], spoil: Callable[[Path], object]
) -> None:
    artifacts, made = filled
    index = registry.home / "index.sqlite"
    spoil(index)
    assert registry.artifacts() == artifacts
    spoil(index)
    assert registry.made_by(artifacts[-1].base or artifacts[0].base or "") == made
    with closing(sqlite3.connect(index)) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


def test_reindex_forgets_what_the_index_made_up(
    registry: Registry, filled: tuple[list[Stored], list[tuple[str, str]]]
) -> None:
    index = registry.home / "index.sqlite"
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("update artifacts set kind = 'invented'")
        connection.commit()
    assert {stored.kind for stored in registry.artifacts()} == {"invented"}
    registry.reindex()
    assert registry.artifacts() == filled[0]


def test_a_home_that_can_only_be_read_is_indexed_in_memory(
    registry: Registry, filled: tuple[list[Stored], list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (registry.home / "index.sqlite").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = sorted(registry.home.rglob("*"))
    assert registry.artifacts() == filled[0]
    assert sorted(registry.home.rglob("*")) == before


def test_a_full_disk_keeps_nobody_from_looking(registry: Registry, put: Put) -> None:
    put("before")
    registry.artifacts()
    for number in range(40):  # more than fits into what the index has of the disk
        put(f"{number}")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((registry.home / "index.sqlite").stat().st_size, hard))
    try:
        found = registry.artifacts()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(found) == 41
    assert registry.artifacts() == found


def test_several_questions_at_once_are_of_one_thread(
    registry: Registry, filled: tuple[list[Stored], list[tuple[str, str]]]
) -> None:
    def ask_another() -> list[Stored]:
        with ThreadPoolExecutor() as pool:
            return pool.submit(registry.artifacts).result()

    assert registry.ask(ask_another) == filled[0]
    assert registry.ask(lambda: registry.ask(registry.artifacts) + registry.artifacts()) == filled[0] * 2


def test_times_that_were_set_back_hide_nothing(registry: Registry, put: Put) -> None:
    digest = put("one")
    settle(registry)
    times = [(folder, (registry.home / folder).stat()) for folder in ("manifests", "runs", "refs")]
    added = put("two")
    registry.write_run("r", {"steps": [{"name": "s", "digest": added}]})
    registry.tag("orders", added)
    for folder, before in times:
        os.utime(registry.home / folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert {stored.digest for stored in registry.artifacts()} == {digest, added}
    assert registry.made_by(added) == [("r", "s")]
    assert [version.digest for version in registry.versions()] == [added]
