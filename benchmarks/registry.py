"""A registry of 10,000 artifacts with 100,000 files, beside the Hub's cache and MLflow's model registry of the same.

First what a person waits for: commands that list, show and trace, `gc` and `verify`. Then what it costs to keep a
model: `put` of 2 GB, beside hashing the same bytes and no more, with the disk's free space before and after.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from benchmarks.measure import BIN, report, seconds
from benchmarks.registry_others import hub_cache, mlflow_registry
from tuneforge_registry import Registry

_FILES = 10
"""In each artifact, of 1 KB each, no two alike."""
_CHAIN = 10
"""Artifacts in a row, each made of the one before, by one run; and versions of one name."""
_LARGE, _SHARDS = 2 << 30, 4


def main() -> None:
    """With a number as an argument, so many artifacts instead of 10,000."""
    count = next((int(word) for word in sys.argv if word.isdigit()), 10_000)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        folder = Path(place)
        digests, made = _fill(folder / "home", count)
        print(f"\n{count} artifacts, {count * _FILES} files; putting and naming one takes {1000 * made:.1f} ms")
        _commands(folder, digests)
        ours = _lookups(Registry(folder / "home"), digests)
        ours["add one"] = _added(folder, count)
        _report_others(ours, {**hub_cache(folder, count, _FILES), **mlflow_registry(folder, count)})
        _put(folder)


def _fill(home: Path, count: int) -> tuple[list[str], float]:
    """The digests, and seconds for each: without waiting for the disk, which would be most of it."""
    registry, digests = Registry(home), []
    with mock.patch.object(os, "fsync"):
        began = time.perf_counter()
        for number in range(count):
            digests.append(_add(registry, number))
        took = (time.perf_counter() - began) / count
        for first in range(0, count, _CHAIN):
            run_id = f"run-{first:06}"
            registry.write_run(run_id, _record(run_id, digests[first : first + _CHAIN]))
    return digests, took


def _add(registry: Registry, number: int) -> str:
    with registry.workspace() as room:
        (room / "out").mkdir()
        chance = random.Random(number)
        for name in range(_FILES):
            (room / "out" / f"file-{name}").write_bytes(chance.randbytes(1024))
        digest = registry.put(room / "out", "model")
    registry.tag(f"model-{number // _CHAIN:05}", digest, alias="production" if number % _CHAIN == 7 else None)
    return digest


def _record(run_id: str, digests: list[str]) -> dict[str, object]:
    steps = [
        {
            "name": f"step-{number}",
            "stage": "train",
            "method": "sft",
            "digest": digest,
            "kind": "model",
            "inputs": {"model": digests[number - 1 : number]},
            "config": {"learning_rate": 1e-4, "steps": 100},
            "status": "done",
            "seconds": 1.0,
        }
        for number, digest in enumerate(digests)
    ]
    return {
        "id": run_id,
        "recipe": "chain",
        "started": f"2026-01-01T00:00:00.{run_id[-6:]}Z",
        "status": "done",
        "steps": steps,
    }


def _added(folder: Path, count: int) -> float:
    """Seconds to put and name one more, on the disk when it ends; the least of several."""
    registry = Registry(folder / "home")
    return min(_timed(lambda number=number: _add(registry, count * 10 + number)) for number in range(_CHAIN))  # type: ignore[misc]


def _commands(folder: Path, digests: list[str]) -> None:
    tuneforge = [str(BIN / "tuneforge"), "--home", str(folder / "home"), "registry"]
    name = f"model-{len(digests) // _CHAIN // 2:05}"
    commands = {
        "ls, a limit of 100": [*tuneforge, "ls", "--limit", "100"],
        "ls": [*tuneforge, "ls"],
        "show": [*tuneforge, "show", f"{name}@production"],
        "lineage": [*tuneforge, "lineage", name],
        "path": [*tuneforge, "path", name],
        "gc, told": [*tuneforge, "gc"],
        "verify": [*tuneforge, "verify"],
        "verify of one": [*tuneforge, "verify", name],
    }
    budgets = dict.fromkeys(("ls", "show", "lineage"), 0.3)
    report("commands", seconds(commands, rounds=3), budgets)
    rebuilt = _timed(Registry(folder / "home").reindex)
    print(f"  the index made anew: {rebuilt:.2f} s")


def _lookups(registry: Registry, digests: list[str]) -> dict[str, float]:
    name = f"model-{len(digests) // _CHAIN // 2:05}"
    return {
        "list all": _median(registry.artifacts),
        "look up one": _median(lambda: registry.tree(registry.resolve(f"{name}@v3"))),
    }


def _report_others(ours: dict[str, float], others: dict[str, dict[str, float]]) -> None:
    title = "in one process, seconds and how many times ours"
    print(f"\n{title:54} {'ours':>9}" + "".join(f"{name:>22}" for name in others))
    for what, seconds_ours in ours.items():
        taken = [seconds_theirs.get(what) for seconds_theirs in others.values()]
        cells = [f"{theirs:12.4f} {theirs / seconds_ours:6.1f}x" if theirs else "" for theirs in taken]
        print(f"  {what:52} {seconds_ours:9.4f}" + "".join(f"{cell:>22}" for cell in cells))


def _put(folder: Path) -> None:
    """On the disk beforehand, so that neither waits for it; what is hashed is in memory for both."""
    registry = Registry(folder / "home")
    speeds: dict[str, list[float]] = {"hash": [], "put": []}
    for turn in range(3):
        made = folder / "home" / "scratch" / "made" / f"{turn}"
        made.mkdir(parents=True)
        for shard in range(_SHARDS):
            with (made / f"model-{shard}.bin").open("wb") as file:
                for _ in range(_LARGE // _SHARDS >> 20):
                    file.write(os.urandom(1 << 20))
        os.sync()
        before = _free(folder), _used(folder / "home")
        speeds["hash"].append(_LARGE / _timed(lambda made=made: _hash(made)) / 1e6)  # type: ignore[misc]
        speeds["put"].append(_LARGE / _timed(lambda made=made: registry.put(made, "model")) / 1e6)  # type: ignore[misc]
        os.sync()
        grown = before[0] - _free(folder), _used(folder / "home") - before[1]
    hashing, putting = (max(found) for found in speeds.values())
    print(f"\nput of {_LARGE / 1e9:.1f} GB on the same filesystem, best of 3")
    print(f"  hashing {hashing:.0f} MB/s, put {putting:.0f} MB/s: {putting / hashing:.0%} (at least 80%)")
    print(
        f"  the disk has {grown[0] / 1e6:.1f} MB less afterwards (df), the registry {grown[1] / 1e6:.1f} MB more (du)"
    )
    _carried(folder, registry)
    print(f"  verify of all that is there: {_timed(registry.verify):.1f} s")


def _carried(folder: Path, registry: Registry) -> None:
    """Both end when it is on the disk."""
    newest = registry.artifacts()[0].digest
    file = folder / "export"
    began = time.perf_counter()
    with file.open("wb") as stream:
        registry.export_to(stream, [newest])
        os.fsync(stream.fileno())
    exporting = time.perf_counter() - began
    with file.open("rb") as stream:
        importing = _timed(lambda: Registry(folder / "other").import_from(stream))
    print(f"  export {_LARGE / exporting / 1e6:.0f} MB/s, import {_LARGE / importing / 1e6:.0f} MB/s, disk included")


def _hash(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def _free(folder: Path) -> int:
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize


def _used(folder: Path) -> int:
    """What df cannot tell where others write to the same disk: bytes of all files, each once whatever its links."""
    files = (os.lstat(Path(place, name)) for place, _, names in os.walk(folder) for name in names)
    return sum({status.st_ino: status.st_blocks * 512 for status in files}.values())


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _median(work: Callable[[], object], rounds: int = 5) -> float:
    work()
    return statistics.median(_timed(work) for _ in range(rounds))
