"""Processes killed at any moment: nothing that was committed is lost, and nothing stays that gc does not find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.registry.faults import OPERATIONS
from tuneforge_registry import Registry

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks and kills")
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("locks", ["", "no-locks"])
def test_nothing_committed_is_lost_by_kill_9(tmp_path: Path, locks: str) -> None:
    kill_and_look(tmp_path, 20, locks)


@pytest.mark.whole
def test_nothing_committed_is_lost_by_200_kills(tmp_path: Path) -> None:
    killed = kill_and_look(tmp_path, 200)
    assert min(killed.get(operation, 0) for operation in OPERATIONS) >= 2, "every operation was killed, more than once"


def kill_and_look(folder: Path, kills: int, locks: str = "", program: str = "tests.registry.faults") -> dict[str, int]:
    """The number of kills in each operation, once all that must hold has been seen to hold."""
    home = folder / "home"
    command = [sys.executable, "-m", program, str(home), str(kills), locks]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    killed: dict[str, int] = json.loads(ended.stdout)
    facts = [json.loads(line) for line in (folder / "acknowledged").read_text().splitlines()]
    registry = Registry(home)

    def all_there() -> None:
        assert registry.verify() == []
        names = registry.names()
        for fact in facts:
            if "run" in fact:
                assert registry.run(fact["run"])["started"] == fact["run"]
            else:
                assert names[fact["name"]].versions[fact["version"]] == fact["digest"]
        for name in names.values():
            assert set(name.aliases.values()) <= name.versions.keys()
            for digest in name.versions.values():
                assert registry.resolve(digest) == digest

    assert len(facts) >= kills // 4
    all_there()
    for path in (home / "tmp").iterdir():  # small files that nobody writes any more: gc waits an hour to be sure
        if path.is_file():
            os.utime(path, (time.time() - 2 * 3600,) * 2)
    registry.gc(dry_run=False, older_than=timedelta(0))
    all_there()
    wanted = {digest for name in registry.names().values() for digest in name.versions.values()}
    wanted |= {base for digest in wanted if (base := registry.manifest(digest).base)}
    assert {stored.digest for stored in registry.artifacts()} == wanted
    stored = {path.name for path in (home / "blobs").rglob("*") if path.is_file()}
    assert stored == {entry.sha256 for digest in wanted for entry in registry.manifest(digest).files.values()}
    assert {path.name for path in (home / "trees").iterdir()} <= wanted
    assert [path for room in ("tmp", "scratch") if (home / room).exists() for path in (home / room).iterdir()] == []
    print({"kills": killed, "facts": len(facts), "artifacts": len(wanted), "blobs": len(stored)})
    return killed
