"""Small files, written so that a reader sees all of one or nothing of it, whenever the writer dies."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tuneforge_registry.errors import RegistryError

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def plain(what: str, name: str) -> str:
    """`name` itself, if it can be a file's name anywhere; RegistryError that calls it a `what` otherwise."""
    if not _PLAIN.fullmatch(name):
        fix = "use letters, digits, '.', '_' and '-', a letter or digit first"
        raise RegistryError(f"{name!r} cannot be {what}", fix)
    return name


def replace(home: Path, path: Path, text: str) -> None:
    """Write `path` in one stroke, over what it held."""
    with _written(home, text) as fresh:
        make_folder(path.parent)
        fresh.replace(path)
    sync_folder(path.parent)


def create(home: Path, path: Path, text: str) -> None:
    """Write `path` in one stroke, once and for all: FileExistsError if it is there, however many try at a time."""
    with _written(home, text) as fresh:
        make_folder(path.parent)
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            raise
        except OSError:  # no hard links here: the caller's lock is then all that keeps others out
            if path.exists():
                raise FileExistsError(path) from None
            fresh.rename(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def _written(home: Path, text: str) -> Iterator[Path]:
    fresh = home / "tmp" / f"{os.urandom(8).hex()}.new"
    make_folder(fresh.parent)
    try:
        with fresh.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, that outlives a power cut as what is put into it does."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed into `folder` outlive a power cut."""
    if os.name == "nt":  # a folder cannot be opened there; a rename is journaled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # SMB and some others sync files only
            raise
    finally:
        os.close(descriptor)


def touch(path: Path) -> bool:
    """Note on `path` that it is in use, for gc to see; False if it is not there."""
    try:
        os.utime(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        # Who may only read a registry may still use it: nobody can collect what is not theirs to write.
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return True


def listing(folder: Path) -> list[str]:
    """The names in `folder`, sorted; none if it is not there. Hidden files are the system's, not ours."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError:
        return []


def walk(folder: Path) -> Iterator[Path]:
    """Everything below `folder` that is not itself a folder, in the order of names. Links are not followed.

    A folder that vanishes meanwhile holds nothing.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(folder / entry.name)
        else:
            yield folder / entry.name
