"""An export on disk: a tar of one document and the blobs that it names, in an order that is known beforehand.

Tar, and not zip: it is written and read in one pass, from a pipe too, and tells of each file once, where a zip tells
twice, in places that may differ. Uncompressed, since weights hardly shrink: what is read is as long as what is written.
Members are plain files, of one name and size each that the document has told; a reader needs no more of the format
than a block of 512 bytes, and takes nothing else for one. `tar xf` opens it all the same.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from typing import IO

from tuneforge_registry.errors import RegistryError

DOCUMENT = "tuneforge-export.json"
"""The first member: JSON, what `contents` makes and reads."""

_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20
_END = bytes(2 * _BLOCK)
_LONGEST = 64 << 20  # bytes of the document: it is held in memory


def blob_name(sha256: str) -> str:
    return f"blobs/{sha256}"


class Writer:
    """Writes members one after another; the same members make the same bytes."""

    def __init__(self, stream: IO[bytes], progress: Callable[[int], None]) -> None:
        self._stream, self._progress = stream, progress

    def document(self, text: bytes) -> None:
        if len(text) > _LONGEST:
            raise RegistryError(f"what the export tells takes {len(text)} bytes", "export fewer artifacts at a time")
        self._stream.write(_header(DOCUMENT, len(text)) + text + _padding(len(text)))

    def blob(self, sha256: str, size: int, source: IO[bytes]) -> bool:
        """Whether `source` was what it is said to be; if not, the archive is not to be used."""
        self._stream.write(_header(blob_name(sha256), size))
        hashed, left = hashlib.sha256(), size
        while left and (piece := source.read(min(_PIECE, left))):
            hashed.update(piece)
            self._stream.write(piece)
            self._progress(len(piece))
            left -= len(piece)
        self._stream.write(_padding(size))
        return left == 0 and hashed.hexdigest() == sha256

    def end(self) -> None:
        self._stream.write(_END)


class Reader:
    """Reads members in the order in which they were written; RegistryError for anything that is not as expected."""

    def __init__(self, stream: IO[bytes], progress: Callable[[int], None]) -> None:
        self._stream, self._progress = stream, progress

    def document(self) -> bytes:
        size = self._member(DOCUMENT, "this is no export of tuneforge")
        if size > _LONGEST:
            raise broken(f"what it tells takes {size} bytes, of which {_LONGEST} are allowed")
        text = self._exactly(size)
        self._skip_padding(size)
        return text

    def blob(self, sha256: str, size: int, target: IO[bytes] | None) -> None:
        """Writes the next member to `target`, or only looks at it: it must be this blob."""
        name = blob_name(sha256)
        if (found := self._member(name, f"{name} does not come where it must")) != size:
            raise broken(f"{name} is said to have {size} bytes in one place and {found} in another")
        hashed, left = hashlib.sha256(), size
        while left:
            piece = self._exactly(min(_PIECE, left))
            hashed.update(piece)
            if target is not None:
                target.write(piece)
            self._progress(len(piece))
            left -= len(piece)
        if hashed.hexdigest() != sha256:
            raise broken(f"the content of {name} is not what its name says")
        self._skip_padding(size)

    def end(self) -> None:
        if self._stream.read(len(_END) + 1) != _END:
            raise broken("it goes on, or breaks off, where it must end")

    def _member(self, name: str, otherwise: str) -> int:
        """The size that the next header tells, which must be that of the plain file `name`."""
        block = self._stream.read(_BLOCK)
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError):
            header = None
        # The same bytes as we would write: no link, no device, no field that another reader may take otherwise.
        if header is None or header.name != name or header.size < 0 or block != _header(name, header.size):
            raise broken(otherwise)
        return header.size

    def _exactly(self, size: int) -> bytes:
        text = self._stream.read(size)
        if len(text) != size:
            raise broken("it breaks off")
        return text

    def _skip_padding(self, size: int) -> None:
        if self._exactly(len(_padding(size))).strip(b"\0"):
            raise broken("there is something between its members")


def broken(problem: str) -> RegistryError:
    return RegistryError(f"the file cannot be imported: {problem}", "export it again, or ask where it came from")


def _header(name: str, size: int) -> bytes:
    told = tarfile.TarInfo(name)
    told.size = size
    return told.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
