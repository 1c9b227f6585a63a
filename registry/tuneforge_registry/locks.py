"""Locks between processes, and folders that are safe from gc while their process lives.

The only module that imports filelock, which takes as long to import as everything else together: import it inside
the function that locks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, BaseFileLock, FileLock, SoftFileLock, Timeout

from tuneforge_registry import files, filesystems
from tuneforge_registry.errors import RegistryError

STORE, INDEX = "_store", "_index"  # not names that `Registry.lock` takes
_LONGEST = 600.0  # seconds that gc may hold the store of a large registry


class Lock(FileLock):
    """A file lock whose file's mtime tells since when it is held."""

    def acquire(self, *args: Any, **kwargs: Any) -> AcquireReturnProxy[Any]:
        proxy = super().acquire(*args, **kwargs)
        if self.lock_counter == 1:
            os.utime(self.lock_file)
        return proxy


def at(path: Path) -> BaseFileLock:
    """The lock of the file `path`, not yet held, in a folder that is there. Dies with its process.

    The file stays: removing it would let two in. Where the system has no locks, the file itself is the lock: of a
    process that died on this machine it is taken over, of one on another it stays until somebody removes it.
    """
    return Lock(path) if filesystems.has_locks(path.parent) else SoftFileLock(path)


def lock(home: Path, name: str) -> BaseFileLock:
    path = home / "locks" / f"{name}.lock"
    files.make_folder(path.parent)
    return at(path)


@contextlib.contextmanager
def store(home: Path) -> Iterator[None]:
    """Held where manifests and names are committed to blobs that are there, so that gc never comes between.

    RegistryError where a file is the lock, and whoever made it on another machine is dead by all appearance.
    """
    found = lock(home, STORE)
    found.poll_interval = 0.005
    try:
        found.acquire(timeout=_LONGEST if isinstance(found, SoftFileLock) else -1)
    except Timeout:
        problem = f"{found.lock_file} has been there for {_LONGEST:.0f} s: its process may have died on another machine"
        raise RegistryError(problem, "if nothing works on this registry anywhere, remove it") from None
    try:
        yield
    finally:
        found.release()


@contextlib.contextmanager
def workspace(home: Path) -> Iterator[Path]:
    """A fresh empty folder under tmp/, gone at the end, or with gc once its process is dead."""
    folder = home / "tmp" / os.urandom(8).hex()
    files.make_folder(folder.parent)
    guard = folder.with_suffix(".lock")
    try:
        with at(guard):
            folder.mkdir()
            try:
                yield folder
            finally:
                if folder.exists():  # it may have been put into the registry itself
                    shutil.rmtree(folder)
    finally:
        guard.unlink(missing_ok=True)


def held(home: Path, name: str) -> bool:
    """Whether some process holds the lock `name`."""
    path = home / "locks" / f"{name}.lock"
    if not path.exists():
        return False
    with free(path) as nobody:
        return not nobody


@contextlib.contextmanager
def free(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock file `path`; if so, nobody can until the end of the block.

    Who may not try, being allowed to read only, takes it to be held.
    """
    try:
        probe = FileLock(path) if filesystems.has_locks(path.parent) else SoftFileLock(path)
        probe.acquire(blocking=False)
    except (Timeout, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        yield False
        return
    try:
        yield True
    finally:
        probe.release()
