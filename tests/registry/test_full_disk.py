"""A disk that is full, and one that may only be read: it is told plainly, nothing is lost, and it goes on later."""

from __future__ import annotations

import errno
import io
import random
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.core.bench import Bench
from tests.registry.forgery import snapshot
from tests.registry.mounts import mounted
from tests.registry.test_commands import RECIPE
from tuneforge_registry import Registry

Write = Callable[..., Path]
MEGABYTE = 1 << 20


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    with mounted(tmp_path / "disk", request.param, 8 * MEGABYTE) as folder:
        yield folder


def fill(disk: Path) -> Path:
    """A file that takes all the room that there is."""
    filler = disk / "filler"
    with pytest.raises(OSError) as error, filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert error.value.errno == errno.ENOSPC
    return filler


@pytest.fixture
def model(disk: Path, write: Write) -> str:
    registry = Registry(disk / "home")
    digest = registry.put(write({"weights": noise(MEGABYTE, 1)}), "model")
    registry.tag("bot", digest, alias="production")
    return digest


def test_a_full_disk(disk: Path, model: str, write: Write, tmp_path: Path) -> None:
    registry, other = Registry(disk / "home"), Registry(tmp_path / "other")
    garbage = registry.put(write({"weights": noise(3 * MEGABYTE, 2)}), "model")
    export = io.BytesIO()
    other.export_to(export, [other.put(write({"weights": noise(MEGABYTE, 3)}), "model")])
    folder = write({"weights": noise(MEGABYTE, 4), "small": b"x"})
    filler = fill(disk)
    before = snapshot(registry.home)

    def import_it() -> object:
        export.seek(0)
        return registry.import_from(export)

    attempts: dict[str, Callable[[], object]] = {
        "put": lambda: registry.put(folder, "model"),
        "import": import_it,
        "tag": lambda: registry.tag("another-name", model),
        "remember": lambda: registry.remember("key", model),
        "run": lambda: registry.write_run("run", {"steps": []}),
    }
    for name, attempt in attempts.items():
        with pytest.raises(OSError) as error:
            attempt()
        assert error.value.errno == errno.ENOSPC, name
        assert snapshot(registry.home) == before, name
    assert {path.name for path in folder.iterdir()} == {"weights", "small"}, "what could not be put is still there"
    assert registry.resolve("bot@production") == model
    assert {stored.digest for stored in registry.artifacts()} == {model, garbage}
    assert registry.verify() == []

    registry.gc(dry_run=False, older_than=timedelta(0))  # on the full disk: it makes room
    assert garbage not in registry
    filler.unlink()
    for attempt in attempts.values():
        attempt()
    assert registry.names()["another-name"].versions == {1: model}
    assert registry.verify() == []


def test_a_disk_that_may_only_be_read(disk: Path, model: str, write: Write, tmp_path: Path) -> None:
    registry = Registry(disk / "home")
    garbage = registry.put(write({"weights": b"garbage"}), "model")
    registry.tree(model)
    before = snapshot(registry.home)
    folder = write({"weights": b"x"})
    export = io.BytesIO()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        attempts: dict[str, Callable[[], object]] = {
            "put": lambda: registry.put(folder, "model"),
            "import": lambda: registry.import_from(io.BytesIO(export.getvalue())),
            "tag": lambda: registry.tag("another-name", model),
            "gc": lambda: registry.gc(dry_run=False, older_than=timedelta(0)),
            "run": lambda: registry.write_run("run", {"steps": []}),
        }
        assert (registry.tree(model) / "weights").read_bytes() == noise(MEGABYTE, 1)
        assert registry.resolve("bot") == model
        assert {stored.digest for stored in registry.artifacts()} == {model, garbage}
        registry.export_to(export, [model])
        for name, attempt in attempts.items():
            with pytest.raises(OSError) as error:
                attempt()
            assert error.value.errno == errno.EROFS, name
        assert registry.verify() == []
        assert (folder / "weights").exists()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert snapshot(registry.home) == before
    for attempt in attempts.values():
        attempt()
    assert garbage not in registry


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["tmpfs"], indirect=True)  # ext4 may have room for a name that it did not tell of
def test_a_run_on_a_full_disk_is_told_and_goes_on(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a rose is a rose")
    bench = Bench(tmp_path, disk / "home")
    bench.write(RECIPE)
    filler = fill(disk)
    ended = bench.command("run", "recipe.yaml")
    assert ended.code == 1
    assert "the disk is full" in ended.err + ended.out or "No space left" in ended.err + ended.out
    assert "Traceback" not in ended.err + ended.out
    filler.unlink()
    assert bench.command("run", "recipe.yaml").code == 0
    assert bench.command("registry", "verify").code == 0
    assert bench.command("registry", "export", "roses", str(disk / "out")).code == 0

    fill(disk)
    more, out = str(disk / "more"), str(disk / "out")
    for arguments in (("tag", "roses", "more"), ("export", "roses", more), ("import", out, "--as", "x")):
        ended = bench.command("registry", *arguments)
        assert (ended.code, ended.err.splitlines()[0]) == (1, "the disk is full, or your share of it"), arguments
    assert not list(disk.glob("more*"))
    assert bench.command("registry", "gc", "--days", "0", "--yes").code == 0
    assert bench.command("registry", "verify").code == 0


@pytest.mark.slow
def test_a_run_on_a_disk_that_may_only_be_read_is_told(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a rose is a rose")
    bench = Bench(tmp_path, disk / "home")
    bench.write(RECIPE)
    assert bench.command("run", "recipe.yaml").code == 0
    assert bench.command("registry", "export", "roses", "out").code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        refused = bench.command("run", "recipe.yaml")
        assert refused.code == 2
        assert f"{bench.home}: error: the registry" in refused.err
        for arguments in (("tag", "roses", "more"), ("gc", "--yes"), ("import", str(tmp_path / "out"), "--as", "x")):
            ended = bench.command("registry", *arguments)
            assert ended.code == 1, arguments
            assert "Read-only file system" in ended.err, arguments
            assert "Traceback" not in ended.err, arguments
        for arguments in (("ls",), ("show", "roses"), ("lineage", "roses"), ("verify",), ("export", "roses", "again")):
            assert bench.command("registry", *arguments).code == 0, arguments
        assert (tmp_path / "again").read_bytes() == (tmp_path / "out").read_bytes()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert bench.command("run", "recipe.yaml").code == 0
