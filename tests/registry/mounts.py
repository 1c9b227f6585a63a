"""Filesystems to put a registry on: mounted for a test where that is allowed, which takes root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SMALLEST = {"ext4": 8 << 20, "btrfs": 128 << 20, "xfs": 320 << 20}
"""Bytes that a filesystem needs at least; the file below it is sparse."""


def _run(*command: str | Path) -> None:
    """Runs it, or skips the test and says why it cannot be run here."""
    if not shutil.which(str(command[0])):
        pytest.skip(f"{command[0]} is not installed")
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"{' '.join(map(str, command[:4]))} is not possible here: {ended.stderr.strip()[:200]}")


@contextlib.contextmanager
def mounted(folder: Path, kind: str, size: int | None = None) -> Iterator[Path]:
    """A folder on a fresh filesystem of a kind, `tmpfs` or one of `SMALLEST`, of `size` bytes."""
    if os.name == "nt" or os.getuid() != 0:
        pytest.skip("mounting takes root")
    folder.mkdir()
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", f"size={size or 64 << 20}", "tmpfs", folder)
    else:
        image = folder.with_name(f"{folder.name}.image")
        with image.open("xb") as file:
            file.truncate(size or SMALLEST[kind])
        _run(f"mkfs.{kind}", "-q", image)
        _run("mount", "-o", "loop", image, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def free(folder: Path) -> int:
    """Bytes that are free on the filesystem, once all is on it."""
    os.sync()
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize
