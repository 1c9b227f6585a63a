"""Files that others send as exports: refused with a reason, or taken whole; nothing else happens."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import itertools
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.registry.forgery import EMPTY, forged, model, snapshot
from tuneforge_registry import FileEntry, Manifest, Registry, RegistryError, archive, manifests


def refused(registry: Registry, file: bytes, problem: str, **options: Any) -> None:
    before = snapshot(registry.home)
    with pytest.raises(RegistryError, match=problem):
        registry.import_from(io.BytesIO(file), **options)
    assert snapshot(registry.home) == before
    assert registry.verify() == []


def test_a_forged_file_of_the_right_form_is_taken(registry: Registry) -> None:
    """So that what the tests below forge is refused for what they say."""
    told, blobs = model({"a": b"1", "deep/b": b"2"})
    assert len(registry.import_from(io.BytesIO(forged(told, blobs))).new) == 1


@pytest.mark.parametrize(
    "path", ["../up", "/etc/passwd", "a/../../b", "C:\\up", "a\0b", "nul", "dots.", "x:y", ".git/config", "", "a//b"]
)
def test_paths_that_leave_or_that_no_system_holds(registry: Registry, path: str) -> None:
    told, blobs = model({path: b"1"})
    refused(registry, forged(told, blobs), "not a plain relative|not every system|no path|of git")


def test_paths_that_clash(registry: Registry) -> None:
    for content in ({"A": b"1", "a": b"2"}, {"a": b"1", "a/b": b"2"}):
        refused(registry, forged(*model(content)), "clashes with")


def test_pickles_and_broken_weights(registry: Registry) -> None:
    evil = b"cos\nsystem\n(S'true'\ntR."
    for path, data, problem in (
        ("pytorch_model.bin", evil, "is a pickle, which runs code"),
        ("model.pt", b"x", "by its name"),
        ("deep/.PKL", b"x", "by its name"),
        ("frame.pkl.gz", b"x", "by its name"),
        ("model.safetensors", b"x", "longer than the file"),
    ):
        refused(registry, forged(*model({"config.json": data, path: data, "x": data})), problem)
    told, blobs = model({"config.json": b"{}", "pytorch_model.bin": evil})
    refused(registry, forged(told, blobs), "is a pickle", allow_pickle=["other.bin"])
    assert registry.import_from(io.BytesIO(forged(told, blobs)), allow_pickle=["pytorch_model.bin"]).new


def test_digests_and_sizes_that_lie(registry: Registry) -> None:
    told, blobs = model({"a": b"12345", "b": b"678"})
    first, second = blobs
    digest = next(iter(told["artifacts"]))
    refused(registry, forged(told, blobs | {second: blobs[second][:-1] + b"?"}), "content of blobs/.* is not what")
    refused(registry, forged(told, blobs | {second: b"12"}), "in one place and 2 in another")
    refused(registry, forged(told, {first: blobs[first]}), "does not come where it must")
    refused(registry, forged(told, {second: blobs[second], first: blobs[first]}), "does not come where it must")
    refused(registry, forged(told, blobs | {"f" * 64: b"more"}), "where it must end")
    refused(registry, forged(told, blobs) + forged(told, blobs), "where it must end")
    refused(
        registry, forged(told | {"artifacts": {"0" * 64: told["artifacts"][digest]}}, blobs), "not what its digest says"
    )
    refused(registry, forged(told | {"asked": ["0" * 64]}, blobs), "does not hold what it is an export of")
    refused(registry, forged(told | {"artifacts": {}, "asked": []}), "does not hold what it is an export of")
    refused(
        registry, forged(told | {"asked": []}, blobs), "does not hold what it is an export of", names={None: "name"}
    )
    refused(registry, forged(told | {"format": 2}, blobs), "format '2'")


def test_what_it_tells_has_to_make_sense(registry: Registry) -> None:
    told, blobs = model({"a": b"12345"})
    digest = next(iter(told["artifacts"]))
    named = {"versions": {"1": digest}, "aliases": {}, "about": {}}
    wrong: dict[str, Any] = {
        "cannot be a name": {"names": {"../up": named}},
        "cannot be a kind": {"artifacts": {digest: told["artifacts"][digest] | {"kind": "a\nb"}}},
        "cannot be an alias": {"names": {"bot": named | {"aliases": {"../up": 1}}}},
        "the alias 'v2' looks like a version": {"names": {"bot": named | {"aliases": {"v2": 1}}}},
        "looks like a digest": {"names": {digest: named}},
        "cannot be a tag": {"names": {"bot": named | {"about": {"1": {"note": "", "tags": ["\x1b[2J"]}}}}},
        "no plain text": {"names": {"bot": named | {"about": {"1": {"note": "\x1b[2J", "tags": []}}}}},
        "stands for what is not in it": {"names": {"bot": named | {"aliases": {"up": 2}}}},
        "cannot be a run id": {"runs": {"../up": {}}},
        "neither in the file nor here": {},
    }
    for problem, change in wrong.items():
        if not change:
            refused(registry, forged(*model({"a": b"1"}, base="0" * 64)), problem)
        else:
            refused(registry, forged(told | change, blobs), problem)
    for change in (
        {"names": {"bot": named | {"versions": {"01": digest}}}},
        {"names": {"bot": named | {"versions": {"1": [digest]}}}},
        {"names": {"bot": named | {"about": {"1": {"note": 1, "tags": []}}}}},
        {"names": {"bot": named | {"about": {"1": {"note": "", "tags": ["x"] * 2_000}}}}},
        {"names": []},
        {"runs": {"a": []}},
        {"runs": {"a": {"settings": 3}}},
        {"runs": {"a": {"settings": [3]}}},
        {"runs": {"a": {"file": 6}}},
        {"runs": {"a": {"environments": {"this": "x"}}}},
        {"runs": {"a": {"steps": [{"name": {"x": 1}}]}}},
        {"runs": {"a": {"steps": [{"config": [1]}]}}},
        {"runs": {"a": {"steps": ["x"]}}},
        {"runs": {"a": {"b": "\ud800"}}},
        {"artifacts": [digest]},
    ):
        refused(registry, forged(told | change, blobs), "another form")
    for text in (b"", b"[]", b"\xff", b"[" * 100_000, b'{"format": 1}', b'{"a":' * 50_000):
        refused(registry, forged(text), "another form|format")


@pytest.mark.parametrize(
    "member",
    [
        {"name": "../up"},
        {"name": "/etc/cron.d/evil"},
        {"name": archive.DOCUMENT, "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": archive.DOCUMENT, "type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
        {"name": archive.DOCUMENT, "type": tarfile.CHRTYPE},
        {"name": archive.DOCUMENT, "type": tarfile.DIRTYPE},
        {"name": archive.DOCUMENT, "type": tarfile.GNUTYPE_SPARSE},
        {"name": archive.DOCUMENT, "type": tarfile.XHDTYPE, "size": 1 << 30},
        {"name": archive.DOCUMENT, "type": tarfile.GNUTYPE_LONGNAME, "size": 1 << 40},
        {"name": archive.DOCUMENT, "size": 1 << 40},
        {"name": archive.DOCUMENT, "size": (64 << 20) + 1},
        {"name": archive.DOCUMENT, "mode": 0o4755},
    ],
)
@pytest.mark.parametrize("place", ["first", "second"])
def test_members_of_other_kinds(registry: Registry, member: dict[str, Any], place: str) -> None:
    told, blobs = model({"a": b"12345"})
    info = tarfile.TarInfo(member["name"])
    for field, value in member.items():
        setattr(info, field, value)
    block = info.tobuf(tarfile.GNU_FORMAT)
    file = forged(told, blobs)
    after = len(file) - 4 * 512  # the header of the blob, the blob, two blocks of nothing
    spoilt = block + file if place == "first" else file[:after] + block + file[after:]
    refused(registry, spoilt, "no export of tuneforge|does not come where|what it tells takes")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_what_would_unpack_to_more_is_no_export(registry: Registry, pack: Callable[[bytes], bytes]) -> None:
    refused(registry, pack(VALID), "no export of tuneforge")
    refused(registry, pack(bytes(1 << 20)), "no export of tuneforge")


def test_more_than_the_disk_holds_is_told_before_it_is_read(registry: Registry) -> None:
    entry = {"sha256": "0" * 64, "size": 1 << 60}
    told, _ = model({"a": b""})
    fields = next(iter(told["artifacts"].values())) | {"files": {"a": entry}}
    digest = Manifest("model", None, {"a": FileEntry("0" * 64, 1 << 60)}).digest
    file = forged(told | {"asked": [digest], "artifacts": {digest: fields}})
    with pytest.raises(OSError) as error:
        registry.import_from(io.BytesIO(file))
    assert error.value.errno == errno.ENOSPC
    assert snapshot(registry.home) == {}


def test_no_document_grows_beyond_its_bounds(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    told, blobs = model({f"{number}": b"1" for number in range(100)})
    monkeypatch.setattr(archive, "_LONGEST", 1000)
    with pytest.raises(RegistryError, match="what the export tells takes"):
        forged(told, blobs)


VALID = forged(*model({"a": b"12345", "model.safetensors": EMPTY}))


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """An export with some bytes changed, cut out or put in; or with other blobs, or another document; or anything."""
    content = bytearray(VALID)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["flip", "cut", "insert", "end"])):
            case "flip" if at < len(content):
                content[at] ^= draw(st.integers(1, 255))
            case "cut":
                del content[at : at + draw(st.sampled_from([1, 7, 512]))]
            case "insert":
                content[at:at] = draw(st.binary(max_size=600))
            case _:
                del content[at:]
    return bytes(content)


leaves = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["../up", "0" * 64, "a", "1"])
)
keys = st.text(max_size=4) | st.just("0" * 64)
told_things = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["../up", "0" * 64, "a", "v1", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("0" * 64), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def retold(draw: st.DrawFn) -> bytes:
    """An export whose document tells something else in one place."""
    told, blobs = model({draw(st.text(max_size=8)): draw(st.binary(max_size=40)) for _ in range(2)})
    at: Any = told
    while isinstance(at, dict) and at:
        key = draw(st.sampled_from(sorted(at)))
        if not isinstance(at[key], dict) or draw(st.booleans()):
            at[key] = draw(told_things)
            break
        at = at[key]
    try:
        return forged(json.dumps(told).encode(), blobs)
    except UnicodeEncodeError:
        return b""


numbers = itertools.count()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoilt() | retold() | st.binary(max_size=1500))
def test_whatever_the_bytes_it_is_refused_or_taken_whole(tmp_path: Path, file: bytes) -> None:
    outside = tmp_path / f"{next(numbers)}"
    home = outside / "home"
    registry = Registry(home)
    outside.mkdir()
    try:
        done = registry.import_from(io.BytesIO(file))
    except RegistryError as error:
        assert error.problem
        assert error.fix
        assert not any(
            path.is_file() for room in ("blobs", "manifests", "refs", "runs") for path in (home / room).rglob("*")
        )
    else:
        assert done.new
        for digest in done.new:
            assert len(list(registry.tree(digest).rglob("*"))) >= 1
    assert {path.name for path in outside.iterdir()} <= {"home"}
    assert registry.verify() == []
    if home.exists():
        assert list((home / "tmp").iterdir()) == []
    assert manifests.digests(home) == sorted(stored.digest for stored in registry.artifacts())
