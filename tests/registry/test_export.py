"""Exported here, imported there: the same, with all that belongs to it."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.registry.forgery import EMPTY, snapshot
from tests.registry.test_races import interrupt
from tuneforge_registry import About, Registry, RegistryError, archive, blobs
from tuneforge_registry.lineage import Lineage

Put = Callable[..., str]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "elsewhere" / "home")


@pytest.fixture
def adapter(registry: Registry, put: Put) -> str:
    """An adapter on a base, trained on rows, with a name, an alias, tags and a note, each made by a step of a run."""
    rows, words = put({"rows.parquet": b"PAR1 rows"}, kind="chat-data"), put("words", kind="texts")
    base = put({"config.json": b"{}", "model.safetensors": EMPTY, "tokens/é.txt": b"x"})
    adapter = put({"adapter.safetensors": EMPTY, "config.json": b"{}"}, kind="adapter", base=base)
    registry.tag("team-base", base)
    registry.tag("orders", put("older"))
    registry.tag("orders", adapter, alias="production")
    registry.tag("orders", put("newer"), alias="newest")
    registry.describe("orders", 2, ["good", "lang=de"], note="der erste für alle ✓")
    first = [{"name": "base", "digest": base, "kind": "model"}]
    registry.write_run("first", {"started": "2026-01-01", "recipe": "orders", "steps": first})
    registry.write_run(
        "second",
        {
            "started": "2026-02-01",
            "loss": float("nan"),
            "steps": [
                {"name": "rows", "digest": rows, "kind": "chat-data", "inputs": {"texts": [words]}},
                {"name": "base", "digest": base, "status": "cached"},
                {"name": "sft", "digest": adapter, "inputs": {"model": [base], "data": [rows]}, "seconds": 1.5},
            ],
        },
    )
    registry.write_run("other", {"started": "2026-03-01", "steps": [{"name": "x", "digest": put("unrelated")}]})
    return adapter


def export(registry: Registry, *digests: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    registry.export_to(stream, digests, **options)
    return stream.getvalue()


def tree(at: Lineage) -> Any:
    below = {name: [tree(source) for source in sources] for name, sources in at.inputs.items()}
    return at.digest, at.kind, at.run, json.dumps(at.step), below, tree(at.base) if at.base else None


def test_what_is_exported_is_the_same_elsewhere(registry: Registry, elsewhere: Registry, adapter: str) -> None:
    done = elsewhere.import_from(io.BytesIO(export(registry, adapter)))
    base = registry.manifest(adapter).base
    assert base is not None
    assert set(done.new) == {adapter, base}
    assert set(done.versions) == {"orders@v2", "team-base@v1"}
    assert done.kept == ()
    for digest in (adapter, base):
        assert elsewhere.manifest(digest) == registry.manifest(digest)
        here, there = registry.tree(digest), elsewhere.tree(digest)
        for path in registry.manifest(digest).files:
            assert (there / path).read_bytes() == (here / path).read_bytes()
            assert not os.access(there / path, os.W_OK) or os.getuid() == 0
    assert elsewhere.resolve("orders@production") == adapter
    assert dict(elsewhere.names()["orders"].versions) == {2: adapter}
    assert dict(elsewhere.names()["orders"].aliases) == {"production": 2}
    assert elsewhere.names()["orders"].about == registry.names()["orders"].about != {}
    assert tree(elsewhere.lineage(adapter)) == tree(registry.lineage(adapter))
    assert {run: json.dumps(record) for run, record in elsewhere.runs().items()} == {
        run: json.dumps(registry.run(run)) for run in ("first", "second")
    }
    assert elsewhere.verify() == []
    elsewhere.gc(dry_run=False, older_than=timedelta(0))
    assert {stored.digest for stored in elsewhere.artifacts()} == {adapter, base}
    assert elsewhere.tag("orders", base) == 3
    assert list((elsewhere.home / "tmp").iterdir()) == []


def test_the_same_content_gives_the_same_bytes(registry: Registry, elsewhere: Registry, adapter: str) -> None:
    first = export(registry, adapter)
    registry.write_run(
        "again", {"started": "2026-09-09", "steps": [{"name": "s", "digest": adapter, "status": "cached"}]}
    )
    registry.tree(adapter)
    assert export(registry, adapter) == first
    elsewhere.import_from(io.BytesIO(first))
    assert export(elsewhere, adapter) == first, "an export of an import, ancestors that are not there included"


def test_places_of_a_machine_stay_there(registry: Registry, elsewhere: Registry, put: Put) -> None:
    digest = put("made")
    step = {"name": "s", "digest": digest, "config": {"to": "/somebody/work/dist/x", "r": 4}, "traceback": "File /x"}
    other = {"name": "t", "error": f"no room in {registry.home}/tmp or /somebody/workshop, at '/somebody/work'"}
    record = {"file": "a: /data/rows", "path": "/somebody/recipes/r.yaml", "folder": "/somebody/work"}
    registry.write_run("run", record | {"steps": [step, other]})
    file = export(registry, digest)
    assert b"somebody/work/" not in file and b"recipes" not in file and str(registry.home).encode() not in file
    elsewhere.import_from(io.BytesIO(file))
    assert elsewhere.run("run") == {
        "file": "a: /data/rows",
        "steps": [
            {"name": "s", "digest": digest, "config": {"to": "dist/x", "r": 4}},
            {"name": "t", "error": "no room in tmp or /somebody/workshop, at ''"},
        ],
    }
    assert export(elsewhere, digest) == file
    assert registry.import_from(io.BytesIO(file)).kept == (), "the run that is here is the same one"
    assert registry.run("run")["folder"] == "/somebody/work"


def test_an_export_makes_nothing_newer(registry: Registry, adapter: str, put: Put) -> None:
    for path in (registry.home / "manifests").iterdir():
        os.utime(path, (1000, 1000))
    export(registry, adapter, with_ancestors=True)
    put("the newest")
    base = registry.manifest(adapter).base
    old = {stored.digest for stored in registry.artifacts() if stored.created.year == 1970}
    assert {adapter, base} <= old


def test_a_long_lineage_is_exported(registry: Registry, elsewhere: Registry, put: Put) -> None:
    digests = [put(str(count)) for count in range(3)]
    told = [hashlib.sha256(str(count).encode()).hexdigest() for count in range(1500)]
    chain = [digests[0], *told, digests[1]]
    steps = [
        {"name": f"s{place}", "digest": after, "inputs": {"model": [before]}}
        for place, (before, after) in enumerate(itertools.pairwise(chain))
    ]
    registry.write_run("long", {"steps": steps})
    elsewhere.import_from(io.BytesIO(export(registry, digests[1])))
    assert elsewhere.lineage(digests[1]).step == steps[-1]


def test_any_tar_opens_an_export(registry: Registry, adapter: str, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(export(registry, adapter))) as opened:
        opened.extractall(tmp_path / "out", filter="data")
        assert opened.getnames()[0] == archive.DOCUMENT
        assert opened.getnames()[1:] == sorted(opened.getnames()[1:])
    for file in (tmp_path / "out" / "blobs").iterdir():
        assert (registry.home / "blobs" / file.name[:2] / file.name).read_bytes() == file.read_bytes()


def test_ancestors_come_with_their_files_when_asked(registry: Registry, elsewhere: Registry, adapter: str) -> None:
    made_of = registry.lineage(adapter).inputs["data"][0]
    rows, words = made_of.digest, made_of.inputs["texts"][0].digest
    elsewhere.import_from(io.BytesIO(export(registry, adapter)))
    assert rows not in elsewhere
    assert {path.stem for path in (elsewhere.home / "ancestors").iterdir()} == {rows, words}
    (entry,) = registry.manifest(words).files.values()
    blobs.location(registry.home, entry.sha256).unlink()
    stream = io.BytesIO()
    assert registry.export_to(stream, [adapter], with_ancestors=True).missing == (words,)
    stream.seek(0)
    assert elsewhere.import_from(stream).new == (rows,)
    assert (elsewhere.tree(rows) / "rows.parquet").read_bytes() == b"PAR1 rows"
    assert tree(elsewhere.lineage(adapter)) == tree(registry.lineage(adapter))
    assert elsewhere.verify() == []


def test_a_damaged_ancestor_is_found_and_comes_again(registry: Registry, elsewhere: Registry, adapter: str) -> None:
    file = export(registry, adapter)
    elsewhere.import_from(io.BytesIO(file))
    told = next((elsewhere.home / "ancestors").iterdir())
    told.write_text("{}")
    (damage,) = elsewhere.verify()
    assert (damage.what, damage.path) == ("manifest", f"ancestors/{told.name}")
    assert elsewhere.lineage(adapter).digest == adapter
    told.unlink()
    elsewhere.import_from(io.BytesIO(file))
    assert elsewhere.verify() == []


def test_importing_twice_changes_nothing(registry: Registry, elsewhere: Registry, adapter: str) -> None:
    file = export(registry, adapter)
    elsewhere.import_from(io.BytesIO(file))
    before = snapshot(elsewhere.home)
    again = elsewhere.import_from(io.BytesIO(file))
    assert (again.new, again.versions, again.kept) == ((), (), ())
    assert snapshot(elsewhere.home) == before


def test_a_dry_run_tells_the_same_and_commits_nothing(registry: Registry, elsewhere: Registry, adapter: str) -> None:
    file = export(registry, adapter)
    told = elsewhere.import_from(io.BytesIO(file), dry_run=True)
    assert snapshot(elsewhere.home) == {}
    assert elsewhere.import_from(io.BytesIO(file)) == told
    with pytest.raises(RegistryError, match="cannot be imported"):
        elsewhere.import_from(io.BytesIO(file[:-2000]), dry_run=True)


def test_a_version_never_changes(
    registry: Registry, elsewhere: Registry, adapter: str, write: Callable[..., Path]
) -> None:
    file = export(registry, adapter)
    mine = elsewhere.put(write({"mine": b"mine"}), "model")
    elsewhere.tag("orders", mine)
    elsewhere.tag("orders", elsewhere.put(write({"too": b"mine too"}), "model"), alias="production")
    before = snapshot(elsewhere.home)
    with pytest.raises(RegistryError, match=r"orders@v2 is .* here and .* in the file") as error:
        elsewhere.import_from(io.BytesIO(file))
    assert "--as orders=NAME" in error.value.fix
    assert snapshot(elsewhere.home) == before
    done = elsewhere.import_from(io.BytesIO(file), {"orders": "theirs"})
    assert set(done.versions) == {"theirs@v2", "team-base@v1"}
    assert elsewhere.resolve("theirs@production") == adapter
    assert elsewhere.resolve("orders@v1") == mine
    assert elsewhere.names()["theirs"].about[2].note


def test_what_may_change_stays_as_it_is_here(registry: Registry, elsewhere: Registry, adapter: str) -> None:
    file = export(registry, adapter)
    elsewhere.import_from(io.BytesIO(file))
    base = registry.manifest(adapter).base
    assert base is not None
    elsewhere.tag("orders", base, alias="production")
    elsewhere.describe("orders", 2, drop=["good", "lang=de"], note="ours")
    elsewhere.write_run("first", {"started": "2020", "steps": []})
    kept = elsewhere.import_from(io.BytesIO(file)).kept
    assert [
        word in told
        for word, told in zip(("production stays v3", "tags and note", "another run first"), kept, strict=True)
    ]
    assert elsewhere.resolve("orders@production") == base
    assert elsewhere.names()["orders"].about == {2: About((), "ours")}
    assert elsewhere.run("first")["started"] == "2020"
    assert elsewhere.lineage(base).run is not None, "the record that was in the file is beside it"
    before = snapshot(elsewhere.home)
    elsewhere.import_from(io.BytesIO(file))
    assert snapshot(elsewhere.home) == before


def test_other_names(
    registry: Registry, elsewhere: Registry, put: Put, adapter: str, write: Callable[..., Path]
) -> None:
    digest = put("nameless")
    file, nameless = export(registry, adapter), export(registry, digest)
    for names, problem in (
        ({None: "mine"}, "has 2 names"),
        ({"order": "mine"}, "no name 'order'"),
        ({"orders": "team-base"}, "would be one"),
        ({"orders": "../up"}, "cannot be a name"),
        ({"orders": "team/v3"}, "looks like a version"),
    ):
        with pytest.raises(RegistryError, match=problem):
            elsewhere.import_from(io.BytesIO(file), names)
    assert elsewhere.import_from(io.BytesIO(nameless)).versions == ()
    elsewhere.tag("called", elsewhere.put(write({"mine": b"mine"}), "model"))
    for _ in range(2):
        elsewhere.import_from(io.BytesIO(nameless), {None: "called"})
    assert elsewhere.names()["called"].versions[2] == digest
    assert len(elsewhere.names()["called"].versions) == 2


def test_gc_does_not_come_between(
    registry: Registry, elsewhere: Registry, put: Put, adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not between an export and what it writes, nor between an import and what it finds to be here already."""
    nameless = put("nameless")
    for path in registry.home.rglob("*"):
        os.utime(path, (1, 1))
    interrupt(monkeypatch, archive.Writer, "document", lambda: registry.gc(dry_run=False, older_than=timedelta(0)))
    file = export(registry, nameless)
    elsewhere.import_from(io.BytesIO(file))
    for path in elsewhere.home.rglob("*"):
        os.utime(path, (1, 1))
    interrupt(monkeypatch, archive.Reader, "end", lambda: elsewhere.gc(dry_run=False, older_than=timedelta(0)))
    assert elsewhere.import_from(io.BytesIO(file)).new == (nameless,), "gc was there"
    assert (elsewhere.tree(nameless) / "weights").read_bytes() == b"nameless"


def test_what_nobody_could_import_is_not_exported(registry: Registry, elsewhere: Registry, put: Put) -> None:
    for wrong in (put({"what?.txt": b"x"}), put({"a": b"1", "A": b"2"}), put("x", kind="two words")):
        with pytest.raises(RegistryError, match=r"not every system|clashes|cannot be a kind"):
            export(registry, wrong)
    made = put("made of it")
    registry.write_run("run", {"steps": [{"name": "s", "kind": "model", "digest": made, "inputs": {"data": [wrong]}}]})
    elsewhere.import_from(io.BytesIO(export(registry, made)))
    assert elsewhere.lineage(made).inputs["data"][0].digest == wrong


def test_a_damaged_artifact_is_not_exported(registry: Registry, put: Put, adapter: str) -> None:
    entry = registry.manifest(adapter).files["config.json"]
    blob = registry.home / "blobs" / entry.sha256[:2] / entry.sha256
    blob.chmod(0o644)
    blob.write_bytes(b"[]")
    with pytest.raises(RegistryError, match="is damaged"):
        export(registry, adapter)
    blob.unlink()
    with pytest.raises(RegistryError, match="gone or cut short"):
        export(registry, adapter)
