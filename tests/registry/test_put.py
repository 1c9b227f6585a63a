"""What goes in comes out, is stored once, and what must not go in is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneforge_registry import FileEntry, Manifest, Registry, RegistryError

Put = Callable[..., str]
Write = Callable[..., Path]

file_names = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1, max_size=20)
    .filter(lambda name: name not in (".", ".."))
    .map(lambda name: name + "~")  # never the name of a folder below
)
folder_names = st.sampled_from(["a", "B", "ünï", "模型", "with space", "..."])
trees = st.dictionaries(
    st.tuples(st.lists(folder_names, max_size=4), file_names).map(lambda parts: "/".join([*parts[0], parts[1]])),
    st.binary(max_size=200),
    min_size=1,
    max_size=8,
)


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def blobs(registry: Registry) -> list[Path]:
    return [path for path in (registry.home / "blobs").rglob("*") if path.is_file()]


@settings(max_examples=25, deadline=None)
@given(content=trees, kind=st.sampled_from(["model", "chat-data"]))
def test_what_is_put_comes_back(content: dict[str, bytes], kind: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        registry = Registry(Path(scratch, "home"))
        folder = Path(scratch, "folder")
        for path, data in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        digest = registry.put(folder, kind)

        assert not folder.exists()
        assert read(registry.tree(digest)) == content
        manifest = registry.manifest(digest)
        assert (manifest.kind, manifest.base, manifest.digest) == (kind, None, digest)
        assert manifest.files == {
            path: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for path, data in content.items()
        }
        assert list(manifest.files) == sorted(content)
        assert manifest.size == sum(map(len, content.values()))
        assert len(blobs(registry)) == len(set(content.values()))
        assert registry.verify() == []


def test_the_digest_is_the_sha256_of_the_stored_manifest(registry: Registry, put: Put) -> None:
    digest = put({"b/ü": b"2", "a": b"1"}, kind="adapter", base=put("base"))
    stored = (registry.home / "manifests" / f"{digest}.json").read_bytes()
    assert hashlib.sha256(stored).hexdigest() == digest
    assert json.loads(stored) == {
        "kind": "adapter",
        "base": put("base"),
        "files": {
            "a": vars(FileEntry(hashlib.sha256(b"1").hexdigest(), 1)),
            "b/ü": {"sha256": hashlib.sha256(b"2").hexdigest(), "size": 1},
        },
    }


def test_the_digest_follows_content_and_nothing_else(registry: Registry, write: Write, put: Put) -> None:
    digest = put({"a": b"1", "b": b"2"})
    again = write({"b": b"2", "a": b"1"})
    (again / "a").chmod(0o755)
    os.utime(again / "b", (1, 1))
    (again / "empty folder").mkdir()
    assert registry.put(again, "model") == digest
    others = [put({"a": b"1"}), put({"a": b"1", "c": b"2"}), put({"a": b"1", "b": b"3"})]
    others += [put({"a": b"1", "b": b"2"}, kind="report"), put({"a": b"1", "b": b"2"}, base=digest)]
    assert len({digest, *others}) == 6


def test_identical_content_is_stored_once_and_never_copied(registry: Registry, write: Write) -> None:
    folder = write({"a": b"same", "b/c": b"same", "d": b"other"})
    inode = (folder / "d").stat().st_ino
    first = registry.put(folder, "model")
    second = registry.put(write({"x": b"same"}), "model")
    assert first != second
    assert len(blobs(registry)) == 2
    assert inode in {blob.stat().st_ino for blob in blobs(registry)}
    assert all(blob.stat().st_mode & 0o777 == 0o444 for blob in blobs(registry))
    assert list((registry.home / "tmp").iterdir()) == []


def test_putting_again_is_harmless(registry: Registry, put: Put) -> None:
    digest = put("one")
    (blob,) = blobs(registry)
    inode = blob.stat().st_ino
    assert put("one") == digest
    assert blob.stat().st_ino == inode, "trees are linked to it"
    assert [stored.digest for stored in registry.artifacts()] == [digest]
    assert registry.verify() == []


def test_putting_again_restores_a_blob_that_is_gone_or_cut_short(registry: Registry, put: Put) -> None:
    digest = put("content")
    (blob,) = blobs(registry)
    blob.unlink()
    assert put("content") == digest
    assert registry.verify() == []
    blob.chmod(0o644)
    os.truncate(blob, 3)
    assert put("content") == digest
    assert registry.verify() == []


def test_a_link_inside_the_folder_counts_as_the_file(registry: Registry, write: Write) -> None:
    folder = write({"real/file": b"content"})
    (folder / "link").symlink_to("real/file")
    tree = registry.tree(registry.put(folder, "model"))
    assert read(tree) == {"real/file": b"content", "link": b"content"}
    assert not (tree / "link").is_symlink()


def escaping(folder: Path) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    (folder / "sub" / "link").symlink_to("../../secret")


def test_a_put_that_is_refused_leaves_everything_as_it_was(registry: Registry, write: Write) -> None:
    def refused(spoil: Callable[[Path], object], problem: str) -> None:
        folder = write({"sub/file": b"content"})
        spoil(folder)
        with pytest.raises(RegistryError, match=problem) as error:
            registry.put(folder, "model")
        assert error.value.fix
        assert (folder / "sub" / "file").read_bytes() == b"content"
        assert not registry.home.exists()

    refused(escaping, "is a link to ../../secret")
    refused(lambda folder: (folder / "sub" / "link").symlink_to("/etc/hostname"), "is a link to /etc/hostname")
    refused(lambda folder: (folder / "sub" / "link").symlink_to("nowhere"), "is a link to nowhere")
    refused(lambda folder: (folder / "link").symlink_to("sub"), "is a link to sub")
    refused(lambda folder: (folder / "link").symlink_to("."), "is a link to")
    refused(lambda folder: os.mkfifo(folder / "pipe"), "neither a file nor a folder")
    refused(lambda folder: (folder / "back\\slash").touch(), "not a plain relative one")
    refused(lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch(), "not UTF-8")


def test_a_folder_without_files_is_refused(registry: Registry, tmp_path: Path, write: Write) -> None:
    (tmp_path / "bare" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(write({"a": b"1"}))
    for path, problem in (("bare", "holds no file"), ("absent", "is not a folder"), ("link", "is not a folder")):
        with pytest.raises(RegistryError, match=problem):
            registry.put(tmp_path / path, "model")
    with pytest.raises(RegistryError, match="needs a kind"):
        registry.put(write({"a": b"1"}), "")


def test_the_registry_does_not_swallow_itself(registry: Registry, put: Put) -> None:
    digest = put("one")
    for folder in (registry.home, registry.home.parent, registry.home / "blobs", registry.home / "tmp"):
        with pytest.raises(RegistryError, match="holds the registry or belongs to it"):
            registry.put(folder, "model")
    assert registry.verify() == []
    with registry.workspace() as folder:
        (folder / "weights").write_bytes(b"one")
        assert registry.put(folder, "model") == digest
    assert registry.put(registry.tree(digest), "model") == digest
    assert (registry.tree(digest) / "weights").read_bytes() == b"one"


def test_a_base_that_is_not_here_is_refused(registry: Registry, put: Put) -> None:
    for base in ("0" * 64, "../escape", ""):
        with pytest.raises(RegistryError):
            put("adapter", base=base)
    assert registry.artifacts() == []


def test_a_manifest_cannot_point_out_of_its_folder() -> None:
    entry = FileEntry("0" * 64, 1)
    for path in ("../a", "/a", "a/../../b", "a//b", "", ".", "a/", "a\\b", "a\0b"):
        with pytest.raises(RegistryError):
            Manifest("model", None, {path: entry})
    for sha256 in ("", "../../etc/passwd", "A" * 64):
        with pytest.raises(RegistryError):
            Manifest("model", None, {"a": FileEntry(sha256, 1)})


def test_without_hard_links_files_are_copied(
    registry: Registry, write: Write, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    folder = write({"a": b"1", "b/c": b"2"})
    digest = registry.put(folder, "model")
    tree = registry.tree(digest)
    assert not folder.exists()
    assert read(tree) == {"a": b"1", "b/c": b"2"}
    assert all(blob.stat().st_nlink == 1 for blob in blobs(registry))
    made = tree.stat().st_ino
    assert registry.tree(digest).stat().st_ino == made, "a copied tree is not made again"
    assert [registry.tag("name", digest), registry.tag("name", put("other"))] == [1, 2]
    assert registry.verify() == []


def test_what_is_committed_is_on_disk_before_it_can_be_seen(
    registry: Registry, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    rename = Path.replace

    def checked(self: Path, target: Path) -> Path:
        assert self.stat().st_ino in synced
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", checked)
    digest = put({"a": b"1", "b": b"2"})
    registry.tag("bot", digest, "production")
    registry.remember("key", digest)
    registry.write_run("run", {})
    seen = [path for path in registry.home.rglob("*") if path.parent.name not in ("locks", "tmp")]
    unsynced = {path.relative_to(registry.home).parts[0] for path in seen if path.stat().st_ino not in synced}
    assert unsynced == {"locks", "tmp"}, "only what nobody misses"
    assert all(path.is_dir() for path in seen if path.stat().st_ino not in synced)


def test_a_missing_home_reads_as_empty_and_stays_missing(registry: Registry) -> None:
    assert registry.artifacts() == []
    assert registry.names() == {}
    assert registry.runs() == {}
    assert registry.result_of("key") is None
    assert "0" * 64 not in registry
    assert registry.made_by("0" * 64) == []
    assert registry.verify() == []
    assert registry.gc(dry_run=False).garbage == ()
    for question in (registry.resolve, registry.manifest, registry.tree):
        with pytest.raises(RegistryError):
            question("0" * 64)
    assert not registry.home.exists()


def test_importing_stays_light() -> None:
    code = "import sys, tuneforge_registry; print({'filelock', 'sqlite3', 'shutil'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=importable()) == "set()\n"


def importable() -> dict[str, str]:
    import tuneforge_registry

    return os.environ | {"PYTHONPATH": str(Path(tuneforge_registry.__file__).parents[1])}
