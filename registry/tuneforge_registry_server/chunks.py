"""Of which chunks files are made that came by Xet, so that a client does not send what is here already.

A client asks for the first chunk of a file, and for about one in a thousand of the others; the answer lists the chunks
around it as if they were xorbs, and what it then sends is made of these as well. The lists lie in the registry's
scratch and are gc's to take: without them a client sends everything.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuneforge_registry import FileEntry, Registry, blobs, files
from tuneforge_registry_server import uploads
from tuneforge_registry_server.xorbs import BrokenError, Chunk, Segment, write_shard

_ENTRY = struct.Struct("<32sI")
_ASKED = 1024
"""One chunk of so many is asked for, by its hash."""
_ROW = 8192
"""Chunks that are listed as one xorb: half a gigabyte, as its numbers have 32 bits."""
_ROWS = 8
"""Such lists in one answer."""
_LASTS = 3600


def remember(registry: Registry, sha256: str, chunks: Sequence[Chunk]) -> None:
    """Note of which chunks a file is made."""
    folder = registry.scratch(_list(sha256))
    content = bytes.fromhex(sha256) + b"".join(_ENTRY.pack(bytes.fromhex(one.hash), one.bytes) for one in chunks)
    part = folder / f"{time.monotonic_ns()}.part"
    part.write_bytes(content)
    part.replace(folder / "chunks")
    for number, chunk in enumerate(chunks):
        if number == 0 or int(chunk.hash[48:], 16) % _ASKED == 0:
            place = registry.scratch(f"upload-chunk-{chunk.hash}") / "of"
            if not place.exists():
                place.write_text(f"{sha256} {number // _ROW}")


def around(registry: Registry, chunk: str) -> bytes | None:
    """A shard that tells of a chunk and of those after it in a file that is here; None if there is none."""
    place = registry.home / "scratch" / f"upload-chunk-{chunk}" / "of"
    try:
        sha256, _, row = place.read_text(encoding="ascii").partition(" ")
        first = int(row)
    except (FileNotFoundError, ValueError):
        return None
    found = _read(registry, sha256[:56])
    if found is None:
        return None
    files.touch(place)
    _, chunks = found
    rows = range(first, min(first + _ROWS, -(-len(chunks) // _ROW)))
    listed = {_row(sha256, at): chunks[at * _ROW : (at + 1) * _ROW] for at in rows}
    now = int(time.time())
    return write_shard(listed, now, now + _LASTS)


def listed(registry: Registry, xorb: str) -> Sequence[Chunk] | None:
    """The chunks of what was told as a xorb; None if that was not told here, or is gone."""
    found = _read(registry, xorb[:56])
    row = int(xorb[56:], 16)
    return found[1][row * _ROW : (row + 1) * _ROW] if found else None


def unpacked(registry: Registry, segment: Segment) -> Iterator[bytes]:
    """The bytes of a segment of what was told as a xorb. Raises BrokenError if they are gone."""
    found = _read(registry, segment.xorb[:56])
    if found is None:
        raise BrokenError("a file is made of a xorb that has not come")
    file, chunks = found
    first = int(segment.xorb[56:], 16) * _ROW
    wanted = chunks[first + segment.start : first + segment.end]
    if len(wanted) != segment.end - segment.start or sum(one.bytes for one in wanted) != segment.bytes:
        raise BrokenError("a file is made of chunks that its xorb has not")
    with file.open("rb") as opened:
        opened.seek(sum(one.bytes for one in chunks[: first + segment.start]))
        for one in wanted:
            yield opened.read(one.bytes)


def _read(registry: Registry, beginning: str) -> tuple[Path, list[Chunk]] | None:
    """The file with that beginning of a sha256, if it is here, and its chunks."""
    place = registry.home / "scratch" / _list(beginning) / "chunks"
    try:
        content = place.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) < 32 or (len(content) - 32) % _ENTRY.size:
        return None
    sha256 = content[:32].hex()
    chunks = [Chunk(name.hex(), size) for name, size in _ENTRY.iter_unpack(content[32:])]
    entry = FileEntry(sha256, sum(one.bytes for one in chunks))
    if not sha256.startswith(beginning) or not uploads.holds(registry, entry):
        return None
    files.touch(place)
    blob = blobs.location(registry.home, sha256)
    return (blob if blob.exists() else uploads.waiting(registry, sha256)), chunks


def _list(sha256: str) -> str:
    return f"upload-chunks-{sha256[:56]}"


def _row(sha256: str, number: int) -> str:
    """The name of a xorb for part of a list: a beginning that nothing else has, and which part."""
    return f"{sha256[:56]}{number:08x}"
