"""A registry with many artifacts, made quickly: what its commands take when a team has worked for a year.

Run as: python -m benchmarks.many FOLDER
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneforge_registry import FileEntry, Manifest, Registry

_CHAIN = 20
"""Runs that go on from each other's result, so that lineages are as deep as they get."""
_PACKAGES = {f"package-{number}": f"1.{number}.0" for number in range(150)}
_STEPS: tuple[tuple[str, str, str, str, dict[str, str]], ...] = (
    ("base", "load_model", "hub", "model", {}),
    ("chats", "format", "chat", "chat-data", {}),
    ("pairs", "format", "preference", "preference-data", {}),
    ("sft", "train", "sft", "adapter", {"model": "base", "data": "chats"}),
    ("dpo", "align", "dpo", "adapter", {"model": "sft", "data": "pairs"}),
    ("merged", "merge", "adapter", "model", {"model": "dpo"}),
    ("gguf", "quantize", "gguf", "gguf", {"model": "merged"}),
    ("task", "evaluate", "generation", "report", {"models": "merged", "data": "chats"}),
    ("manners", "evaluate", "preference", "report", {"models": "merged", "data": "pairs"}),
    ("release", "publish", "folder", "release", {"artifacts": "merged", "reports": "task"}),
)


def fill(home: Path, artifacts: int = 10_000, files: int = 10) -> str:
    """Fills a new registry: `files` small files in each artifact, ten artifacts a run, two of them named.

    Written past the registry, which would make each file safe from a power cut. Gives the digest with the longest
    lineage, which is `team-0/orders`'s.
    """
    registry = Registry(home)
    for folder in ("manifests", "runs", "refs", *(f"blobs/{number:02x}" for number in range(256))):
        (home / folder).mkdir(parents=True, exist_ok=True)
    before, deepest = "", ""
    for run in range(artifacts // len(_STEPS)):
        made: dict[str, str] = {}
        record = [*_run(home, run, before if run % _CHAIN else "", made, files)]
        before = made["merged"]
        _write(home / "runs" / f"{run:06}.json", _record(run, record))
        for name, what in (("orders", "merged"), ("orders-gguf", "gguf")):
            _name(registry.home, f"team-{run % 50}/{name}-{run // 50 % 10}", made[what], run // 500 + 1)
        deepest = made["release"] if run == _CHAIN - 1 else deepest
    _name(registry.home, "team-0/orders", deepest, 1)
    return deepest


def _run(home: Path, run: int, before: str, made: dict[str, str], files: int) -> Iterator[dict[str, Any]]:
    for place, (name, stage, method, kind, wires) in enumerate(_STEPS):
        inputs = {wire: [before if before and source == "base" else made[source]] for wire, source in wires.items()}
        content = {f"file-{number}": f"{run} {name} {number}\n".encode() for number in range(files)}
        if kind == "report":
            scores = {digest: {"exact_match": run % 100 / 100} for digest in inputs["models"]}
            document = {"subjects": list(scores), "passed": True, "scores": scores}
            content = dict(list(content.items())[1:]) | {"report.json": json.dumps(document).encode()}
        entries = {}
        for path, data in content.items():
            sha256 = hashlib.sha256(data).hexdigest()
            (home / "blobs" / sha256[:2] / sha256).write_bytes(data)
            entries[path] = FileEntry(sha256, len(data))
        base = inputs["model"][0] if kind == "adapter" and name == "sft" else None
        manifest = Manifest(kind, base, entries)
        file = home / "manifests" / f"{manifest.digest}.json"
        file.write_text(manifest.text)
        os.utime(file, (1.7e9 + run * 60 + place,) * 2)
        made[name] = manifest.digest
        config = {"path": f"orders-{run % 7}.jsonl@{run % 7:012x}"} if stage == "format" else {"repo": "org/tiny"}
        yield {
            "name": name,
            "stage": stage,
            "method": method,
            "version": 1,
            "status": "done",
            "seconds": 1.5,
            "digest": manifest.digest,
            "kind": kind,
            "config": config,
            "metrics": {"loss": 0.5},
            "inputs": inputs,
            "wires": {wire: [source] for wire, source in wires.items()},
        }


def _record(run: int, steps: list[dict[str, Any]]) -> str:
    started = f"2026-01-01T{run // 3600 % 24:02}:{run // 60 % 60:02}:{run % 60:02}.{run:06}+00:00"
    record = {"id": f"{run:06}", "recipe": "orders", "started": started, "status": "done", "steps": steps}
    return json.dumps(record | {"environments": {"this": _PACKAGES}, "file": "# a recipe\n" * 60}, indent=1)


def _name(home: Path, name: str, digest: str, version: int) -> None:
    folder = home / "refs" / name
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"v{version}", f"{digest}\n")
    _write(folder / "@production", f"v{version}\n")


def _write(file: Path, text: str) -> None:
    file.write_text(text)


if __name__ == "__main__":
    print(fill(Path(sys.argv[1])))
