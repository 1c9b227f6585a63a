"""Processes at work on one registry, run as a program of their own by test_processes.py.

python crowd.py tag HOME WORKER     puts and tags, all under one name, when HOME/../go appears
python crowd.py tag HOME WORKER no-locks  the same, where the system locks no files
python crowd.py killed HOME ROUNDS  each round two children put, tag, remember, record and collect until killed
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

from tuneforge_registry import Registry, filesystems, index, locks  # noqa: F401  (imported before forking: rounds stay short)


def write(folder: Path, files: int, seed: str) -> Path:
    for number in range(files):
        path = folder / f"folder {number % 3}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(f"{seed}-{number}").randbytes(5000))
    return folder


def tag(home: Path, worker: int) -> None:
    registry = Registry(home)
    while not (home.parent / "go").exists():
        time.sleep(0.001)
    for number in range(10):
        with registry.workspace() as room:
            (room / "out").mkdir()
            (room / "out" / "same").write_bytes(b"the same for all")
            (room / "out" / "own").write_text(f"{worker} {number}")
            digest = registry.put(room / "out", "model")
        with registry.workspace() as room:
            shared = registry.put(write(room / "out", 3, "shared"), "model")
        tree = registry.tree(shared)
        if len([path for path in tree.rglob("*.bin") if path.stat().st_size == 5000]) != 3:
            sys.exit("a tree is not whole")
        print(registry.tag("crowded", digest, alias=f"last-{worker}"), digest, flush=True)


def work(home: Path, seed: int, acknowledged: int) -> None:
    """Everything that is written to `acknowledged` has been committed and must be there for ever."""
    registry = Registry(home)
    chance = random.Random(seed)
    with registry.lock(f"run-{seed}"):
        for number in range(10_000):
            with registry.workspace() as room:
                folder = write(room / "out", chance.randint(1, 6), f"{seed}-{number}")
                digest = registry.put(folder, "model")
            registry.remember(f"key-{seed}-{number}", digest)
            version = registry.tag(f"name-{chance.randint(0, 5)}", digest, alias="newest")
            registry.write_run(f"run-{seed}", {"started": f"{seed}", "steps": [{"name": "s", "digest": digest}]})
            fact = {"digest": digest, "version": version, "key": f"key-{seed}-{number}", "run": f"run-{seed}"}
            os.write(acknowledged, json.dumps(fact).encode() + b"\n")
            if chance.random() < 0.3:
                registry.tree(digest)
            if chance.random() < 0.2:
                registry.made_by(digest)
            if chance.random() < 0.3:
                registry.gc(dry_run=False, older_than=timedelta(0))


def killed(home: Path, rounds: int) -> None:
    log = home.parent / "acknowledged"
    acknowledged = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for number in range(rounds):
        size = log.stat().st_size
        children = []
        for seed in (2 * number, 2 * number + 1):
            child = os.fork()
            if child == 0:
                work(home, seed, acknowledged)
                os._exit(0)
            children.append(child)
        while log.stat().st_size == size:
            time.sleep(0.001)
            if os.waitpid(-1, os.WNOHANG) != (0, 0):
                sys.exit("a child ended by itself")
        for child in children:
            time.sleep(random.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WTERMSIG(status) != signal.SIGKILL:
                sys.exit("a child failed")


def without_locks() -> None:
    """As on a filesystem of the network that has none."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = flock
    filesystems.kind = lambda path: "nfs4"


if __name__ == "__main__":
    if "no-locks" in sys.argv:
        without_locks()
    os.fsync = lambda fd: None  # kill -9 loses no writes, and the more of them happen the better
    {"tag": tag, "killed": killed}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
