"""A tree is exactly its artifact, whatever was done to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tuneforge_registry import Registry, RegistryError

Put = Callable[..., str]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def blob_of(registry: Registry, digest: str, path: str) -> Path:
    sha256 = registry.manifest(digest).files[path].sha256
    return registry.home / "blobs" / sha256[:2] / sha256


def test_a_tree_is_links_to_blobs(registry: Registry, put: Put) -> None:
    digest = put({"a": b"1", "b/c": b"2"})
    tree = registry.tree(digest)
    assert tree == registry.home / "trees" / digest
    assert (tree / "b" / "c").samefile(blob_of(registry, digest, "b/c"))
    inode = tree.stat().st_ino
    assert registry.tree(digest).stat().st_ino == inode, "a whole tree is left alone"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tree: (tree / "a").unlink(),
        lambda tree: (tree / "extra").write_bytes(b"3"),
        lambda tree: (tree / "link").symlink_to("/"),
        lambda tree: [(tree / "a").unlink(), (tree / "a").write_bytes(b"3")],
        lambda tree: [(tree / "a").unlink(), (tree / "a").symlink_to("b/c")],
        lambda tree: (tree / "b" / "c").rename(tree / "c"),
    ],
)
def test_a_tree_that_is_not_the_artifact_is_made_again(
    registry: Registry, put: Put, spoil: Callable[[Path], object]
) -> None:
    digest = put({"a": b"1", "b/c": b"2"})
    spoil(registry.tree(digest))
    tree = registry.tree(digest)
    assert files(tree) == {"a": b"1", "b/c": b"2"}
    assert not any(path.is_symlink() for path in tree.rglob("*"))
    assert list((registry.home / "tmp").iterdir()) == []


def test_damage_done_through_a_tree_is_found_and_can_be_undone(registry: Registry, put: Put) -> None:
    digest = put({"a": b"good", "b": b"2"})
    registry.tag("name", digest)
    tree = registry.tree(digest)
    (tree / "a").chmod(0o644)
    (tree / "a").write_bytes(b"evil")
    (damage,) = registry.verify()
    blob = blob_of(registry, digest, "a")
    assert (damage.what, damage.path) == ("blob", blob.relative_to(registry.home).as_posix())
    assert (damage.artifacts, damage.names) == ((digest,), ("name@v1",))

    blob.unlink()  # what the damage's `fix` says
    assert put({"a": b"good", "b": b"2"}) == digest
    assert files(registry.tree(digest)) == {"a": b"good", "b": b"2"}
    assert registry.verify() == []


def test_a_tree_with_a_lost_blob_is_an_error_that_names_the_file(registry: Registry, put: Put) -> None:
    digest = put({"a": b"1", "b": b"2"})
    blob_of(registry, digest, "b").unlink()
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"b of the model .* is gone") as error:
            registry.tree(digest)
        assert "run the recipe" in error.value.fix
    assert not (registry.home / "trees" / digest).exists()
