"""Every kind of damage is found, and named by what it touches."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneforge_registry import Registry

Put = Callable[..., str]


@pytest.fixture
def model(registry: Registry, put: Put) -> str:
    """A named model with a file of its own, next to an unnamed one that shares the other."""
    digest = put({"own": b"own content", "shared": b"shared content"})
    put({"shared": b"shared content"}, kind="report")
    registry.tag("bot", digest, alias="production")
    registry.remember("key", digest)
    registry.write_run("run", {"steps": [{"name": "sft", "digest": digest}]})
    assert registry.verify() == []
    return digest


def blob(registry: Registry, digest: str, path: str) -> Path:
    sha256 = registry.manifest(digest).files[path].sha256
    return registry.home / "blobs" / sha256[:2] / sha256


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 3)


@pytest.mark.parametrize(
    ("spoil", "problem"), [(flip, "content is not"), (cut, "content is not"), (Path.unlink, "is gone")]
)
def test_a_damaged_or_missing_blob(
    registry: Registry, model: str, put: Put, spoil: Callable[[Path], object], problem: str
) -> None:
    adapter = put("adapter", kind="adapter", base=model)
    registry.tag("adapter", adapter)
    path = blob(registry, model, "own")
    spoil(path)
    (damage,) = registry.verify()
    assert (damage.what, damage.path) == ("blob", path.relative_to(registry.home).as_posix())
    assert problem in damage.problem
    assert "run the recipe" in damage.fix
    assert set(damage.artifacts) == {model, adapter}, "what sits on it is unusable too"
    assert damage.names == ("adapter@v1", "bot@v1")


def test_a_shared_blob_touches_every_artifact_that_has_it(registry: Registry, model: str) -> None:
    flip(blob(registry, model, "shared"))
    (damage,) = registry.verify()
    assert len(damage.artifacts) == 2
    assert damage.names == ("bot@v1",)


def test_a_damaged_manifest(registry: Registry, model: str) -> None:
    path = registry.home / "manifests" / f"{model}.json"
    path.write_text(path.read_text().replace("own", "OWN", 1))
    (damage,) = registry.verify()
    assert (damage.what, damage.path) == ("manifest", f"manifests/{model}.json")
    assert (damage.artifacts, damage.names) == ((model,), ("bot@v1",))


def test_a_missing_manifest_leaves_a_name_and_a_step_pointing_nowhere(registry: Registry, model: str) -> None:
    (registry.home / "manifests" / f"{model}.json").unlink()
    name, step = registry.verify()
    assert (name.what, name.path, name.names) == ("name", "refs/bot/v1", ("bot@v1",))
    assert (step.what, step.path) == ("step", "steps/key")


def test_a_missing_base(registry: Registry, model: str, put: Put) -> None:
    adapter = put("adapter", kind="adapter", base=put("base"))
    registry.tag("adapter", adapter)
    (registry.home / "manifests" / f"{put('base')}.json").unlink()
    (damage,) = registry.verify()
    assert (damage.what, damage.artifacts, damage.names) == ("manifest", (adapter,), ("adapter@v1",))
    assert "base" in damage.problem


def test_damaged_names_steps_and_runs(registry: Registry, model: str, put: Put) -> None:
    registry.tag("bot", put("two"))
    (registry.home / "refs" / "bot" / "v2").write_text("nonsense")
    (registry.home / "refs" / "bot" / "@production").write_text("v9")
    (registry.home / "steps" / "key").write_text("")
    (registry.home / "runs" / "run.json").write_text("{")
    damages = {damage.path: damage for damage in registry.verify()}
    assert damages.keys() == {"refs/bot/v2", "refs/bot/@production", "steps/key", "runs/run.json"}
    assert damages["refs/bot/v2"].names == ("bot@v2",)
    assert damages["refs/bot/@production"].names == ("bot@production",)
    assert all(damage.fix and damage.problem for damage in damages.values())


def test_progress_counts_bytes_to_the_end(registry: Registry, model: str) -> None:
    seen: list[tuple[int, int]] = []
    registry.verify(lambda done, total: seen.append((done, total)))
    total = len(b"own content") + len(b"shared content")
    assert [total for _, total in seen] == [total, total]
    assert seen[-1] == (total, total)


def test_garbage_is_not_damage(registry: Registry, model: str) -> None:
    (registry.home / "blobs" / "e3").mkdir(exist_ok=True)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (registry.home / "blobs" / "e3" / empty).touch()
    (registry.home / "tmp" / "left-behind").touch()
    for folder in ("steps", "runs", "refs", "refs/bot", "manifests", "blobs", "trees"):
        (registry.home / folder).mkdir(exist_ok=True)
        (registry.home / folder / ".DS_Store").touch()
    assert len(registry.artifacts()) == 2
    assert registry.gc(dry_run=True).bytes == 0
    assert registry.verify() == []
