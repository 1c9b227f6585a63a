"""Many processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tuneforge_registry
from tuneforge_registry import Registry

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks and kills")


def start(*arguments: object) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("crowd.py")
    environment = os.environ | {"PYTHONPATH": str(Path(tuneforge_registry.__file__).parents[1])}
    command = [sys.executable, str(program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_processes_that_tag_at_once_get_versions_of_their_own(registry: Registry) -> None:
    crowd = [start("tag", registry.home, worker) for worker in range(4)]
    (registry.home.parent / "go").touch()
    told: dict[int, str] = {}
    last: dict[int, int] = {}
    for worker, process in enumerate(crowd):
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        for line in output.splitlines():
            version, digest = line.split()
            assert int(version) not in told
            told[int(version)] = digest
            last[worker] = int(version)
    assert sorted(told) == list(range(1, 41))
    assert len(set(told.values())) == 40
    name = registry.names()["crowded"]
    assert name.versions == told
    assert name.aliases == {f"last-{worker}": version for worker, version in last.items()}
    assert len(registry.artifacts()) == 41
    assert registry.verify() == []


def test_a_lock_keeps_other_processes_out_and_dies_with_its_process(registry: Registry) -> None:
    code = (
        "import sys, pathlib, tuneforge_registry as r;"
        "lock = r.Registry(pathlib.Path(sys.argv[1])).lock('step'); lock.acquire(timeout=20);"
        "print('held', flush=True); input()"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(tuneforge_registry.__file__).parents[1])}
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(registry.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lock = registry.lock("step")
    with pytest.raises(TimeoutError):
        lock.acquire(timeout=0)
    holder.kill()
    holder.communicate()
    with lock.acquire(timeout=10):
        assert lock.is_locked
