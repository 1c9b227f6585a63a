"""Processes at work on one registry, run as a program of their own by test_processes.py.

python crowd.py tag HOME WORKER           puts and tags, all under one name, when HOME/../go appears
python crowd.py tag HOME WORKER no-locks  the same, where the system locks no files
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import sys
import time
from pathlib import Path

from tuneforge_registry import Registry, filesystems


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
    tag(Path(sys.argv[2]), int(sys.argv[3]))
