"""What the filesystem below a registry can do: a home may lie on any disk, or in a folder of the network."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from functools import cache
from pathlib import Path

_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "davfs"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.davfs2", "fuse.smbnetfs", "fuse.rclone", "fuse.s3fs"),
    *("fuse.gcsfuse", "fuse.goofys", "fuse.juicefs", "fuse.blobfuse2", "fuse.mount-s3"),
}
_CLONE = 0x40049409  # FICLONE of linux/fs.h
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def is_network(path: Path) -> bool:
    """Whether `path`, or the folder that it would be made in, is on a filesystem shared with other machines."""
    return kind(path) in _NETWORK


def kind(path: Path) -> str:
    """The type of the filesystem of `path` as Linux calls it, such as `ext4`; empty where that cannot be known."""
    return _mounted(str(Path(os.path.realpath(path))))


@cache
def _mounted(path: str) -> str:
    best, found = "", ""
    with contextlib.suppress(FileNotFoundError, PermissionError):  # only Linux has it
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            _, point, type_of, *_ = line.split(" ")
            point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):  # of two on one another, the later hides the earlier
                best, found = point, type_of
    return found


def link(source: Path, target: Path) -> None:
    """Make `target` the same as `source` without a second copy of its bytes where the filesystem can; else copy them.

    A hard link; or a clone, that shares its blocks; or a copy, written to the disk. Times are the source's.
    """
    try:
        target.hardlink_to(source)
    except OSError:  # another filesystem, one without links, too many to this file, or not allowed to link another's
        import shutil

        if not clone(source, target):
            shutil.copyfile(source, target)
        shutil.copystat(source, target)
        with target.open("rb") as copy:
            os.fsync(copy.fileno())  # what is left of it by a power cut would look whole


def clone(source: Path, target: Path) -> bool:
    """Make `target` share the blocks of `source` (btrfs, XFS, bcachefs); False, and no target, where that cannot be."""
    if sys.platform != "linux":
        return False
    import fcntl

    with source.open("rb") as given, target.open("xb") as made:
        try:
            fcntl.ioctl(made.fileno(), _CLONE, given.fileno())
            return True
        except OSError:
            pass
    target.unlink()
    return False


@cache
def has_locks(folder: Path) -> bool:
    """Whether the system locks files in `folder`, which must be there: some network filesystems do not."""
    if os.name == "nt" or not is_network(folder):
        return True
    import fcntl

    probe = folder / f"{os.urandom(8).hex()}.new"  # what is left of it by a process that is killed, gc takes
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    finally:
        os.close(descriptor)
        probe.unlink()
    return True
