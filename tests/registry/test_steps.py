"""The step cache gives back only what is all there."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tuneforge_registry import Registry, RegistryError

Put = Callable[..., str]


def test_a_result_is_remembered(registry: Registry, put: Put) -> None:
    first, second = put("one"), put("two")
    assert registry.result_of("key") is None
    registry.remember("key", first)
    assert registry.result_of("key") == first
    registry.remember("key", second)
    assert registry.result_of("key") == second
    assert (registry.home / "steps" / "key").read_text() == second + "\n"


def test_a_result_that_lost_anything_is_none(registry: Registry, put: Put) -> None:
    digest = put({"a": b"first", "b": b"second"})
    registry.remember("key", digest)
    sha256 = registry.manifest(digest).files["b"].sha256
    blob = registry.home / "blobs" / sha256[:2] / sha256
    manifest = registry.home / "manifests" / f"{digest}.json"
    step = registry.home / "steps" / "key"

    blob.chmod(0o644)
    os.truncate(blob, 2)
    assert registry.result_of("key") is None
    blob.unlink()
    assert registry.result_of("key") is None
    put({"b": b"second"})
    assert registry.result_of("key") == digest, "the blob is there again"

    text = manifest.read_text()
    manifest.chmod(0o644)
    manifest.write_text(text[:-5])
    assert registry.result_of("key") is None
    manifest.unlink()
    assert registry.result_of("key") is None
    manifest.write_text(text)
    assert registry.result_of("key") == digest

    step.write_text("nonsense")
    assert registry.result_of("key") is None


def test_what_is_not_here_cannot_be_remembered(registry: Registry) -> None:
    for digest in ("0" * 64, "../../etc/passwd"):
        with pytest.raises(RegistryError):
            registry.remember("key", digest)
    assert registry.result_of("key") is None


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".", "..", ".hidden", "nul\0", "a" * 300])
def test_names_of_files_cannot_leave_their_folder(registry: Registry, put: Put, name: str) -> None:
    digest = put("one")
    before = sorted(registry.home.parent.rglob("*"))
    for use in (
        registry.result_of,
        registry.scratch,
        registry.lock,
        registry.run,
        registry.run_folder,
        lambda name: registry.remember(name, digest),
        lambda name: registry.write_run(name, {}),
    ):
        with pytest.raises(RegistryError, match="cannot be a"):
            use(name)
    assert sorted(registry.home.parent.rglob("*")) == before
