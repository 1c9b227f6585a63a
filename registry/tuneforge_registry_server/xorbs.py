"""Xet's two formats, as far as a server needs them to make files of what a client sends.

A *xorb* is a row of chunks, each perhaps compressed; a *shard* tells of which chunks of which xorbs a file is made.
Source: https://huggingface.co/docs/xet and github.com/huggingface/xet-core (xet_core_structures). Hashes of Xet's own
(BLAKE3 trees) are names here and no more: a file is believed by its sha256, which a shard tells as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor

_TAG = b"HFRepoMetaData\0UigEj{\x81W\x83\xa5\xbd\xd9\\\xcd\xd1J\xa9"
_VERSION = 2
_HEADER = struct.Struct("<32sQQ")
_FILE = struct.Struct("<32sIIQ")
_SEGMENT = struct.Struct("<32sIIII")
_VERIFIED, _EXTENDED = 1 << 31, 1 << 30
_SHARD_END = struct.Struct("<9Q32s2Q9QQ")
_END = b"\xff" * 32
_CHUNK = struct.Struct("<B3sB3s")
_FOOTER = b"XETBLOB"
_LARGEST_CHUNK = 1 << 20
"""Bytes of a chunk; the client makes none above 128 KiB."""
_MOST_CHUNKS = 1 << 16
"""Chunks of a xorb; the client makes 8192 at most."""
NONE, LZ4, GROUPED = 0, 1, 2


class BrokenError(ValueError):
    """A xorb or shard that is not what its format says."""


@dataclass(frozen=True)
class Segment:
    """Chunks of a xorb, from `start` up to and without `end`, which are so many bytes together."""

    xorb: str
    start: int
    end: int
    bytes: int


@dataclass(frozen=True)
class Described:
    """A file by its segments, and its sha256."""

    sha256: str
    segments: tuple[Segment, ...]

    @property
    def bytes(self) -> int:
        return sum(segment.bytes for segment in self.segments)


@dataclass(frozen=True)
class Chunk:
    """A chunk by Xet's hash of it, and how many bytes it has."""

    hash: str
    bytes: int


@dataclass(frozen=True)
class Shard:
    files: tuple[Described, ...]
    xorbs: Mapping[str, tuple[Chunk, ...]]
    """The chunks of the xorbs that it tells of, by the xorb's hash."""


def read_shard(content: bytes) -> Shard:
    """What a shard tells. Raises BrokenError."""
    try:
        tag, version, _ = _HEADER.unpack_from(content)
        if tag != _TAG or version != _VERSION:
            raise BrokenError("it is no shard of this version")
        files, position = [], _HEADER.size
        while True:
            name, flags, count, _ = _FILE.unpack_from(content, position)
            position += _FILE.size
            if name == _END:
                break
            following = count * (2 if flags & _VERIFIED else 1) + bool(flags & _EXTENDED)
            if position + following * _SEGMENT.size > len(content):
                raise BrokenError("the shard is cut short")
            if not flags & _EXTENDED:
                raise BrokenError("the shard tells no sha256 of a file")
            segments = tuple(_segment(content, position + at * _SEGMENT.size) for at in range(count))
            position += following * _SEGMENT.size
            sha256 = _hex(content[position - _SEGMENT.size : position - _SEGMENT.size + 32])
            files.append(Described(sha256, segments))
        return Shard(tuple(files), _read_xorbs(content, position))
    except struct.error:
        raise BrokenError("the shard is cut short") from None


def _read_xorbs(content: bytes, position: int) -> dict[str, tuple[Chunk, ...]]:
    found: dict[str, tuple[Chunk, ...]] = {}
    while True:
        xorb, _, count, _, _ = _SEGMENT.unpack_from(content, position)
        position += _SEGMENT.size
        if xorb == _END:
            return found
        if position + count * _SEGMENT.size > len(content):
            raise BrokenError("the shard is cut short")
        chunks = []
        for at in range(position, position + count * _SEGMENT.size, _SEGMENT.size):
            name, _, size, _, _ = _SEGMENT.unpack_from(content, at)
            chunks.append(Chunk(_hex(name), size))
        found[_hex(xorb)] = tuple(chunks)
        position += count * _SEGMENT.size


def write_shard(xorbs: Mapping[str, Sequence[Chunk]], made: int, ends: int) -> bytes:
    """A shard that tells of xorbs alone, for a client to find there what it has; valid until `ends`, in seconds."""
    parts = [_HEADER.pack(_TAG, _VERSION, _SHARD_END.size), _END + bytes(16)]
    for xorb, chunks in xorbs.items():
        size = sum(chunk.bytes for chunk in chunks)
        parts.append(_SEGMENT.pack(_raw(xorb), 0, len(chunks), size, size))
        position = 0
        for chunk in chunks:
            parts.append(_SEGMENT.pack(_raw(chunk.hash), position, chunk.bytes, 0, 0))
            position += chunk.bytes
    parts.append(_END + bytes(16))
    end, first = sum(map(len, parts)), _HEADER.size
    # The tables by which files, xorbs and chunks are looked up are empty: a client then reads the list itself.
    offsets = (1, first, first + _FILE.size, end, 0, end, 0, end, 0)
    parts.append(_SHARD_END.pack(*offsets, bytes(32), made, ends, *[0] * 9, end))
    return b"".join(parts)


def _segment(content: bytes, position: int) -> Segment:
    xorb, _, size, start, end = _SEGMENT.unpack_from(content, position)
    return Segment(_hex(xorb), start, end, size)


def _hex(raw: bytes) -> str:
    """A hash as Xet writes it: four numbers of eight bytes, the least significant byte first."""
    return "".join(raw[at : at + 8][::-1].hex() for at in range(0, 32, 8))


def _raw(text: str) -> bytes:
    return b"".join(bytes.fromhex(text[at : at + 16])[::-1] for at in range(0, 64, 16))


class Xorb:
    """The chunks of a xorb file. Raises BrokenError."""

    def __init__(self, file: Path) -> None:
        self._file = file  # not kept open: a large file is made of more of them than a process may have open
        self._chunks: list[tuple[int, int, int, int]] = []  # offset, bytes there, compression, bytes when unpacked
        with file.open("rb") as opened:
            self._read(opened, file.stat().st_size)

    def _read(self, file: BinaryIO, size: int) -> None:
        position = 0
        while position < size:
            file.seek(position)
            header = file.read(_CHUNK.size)
            if header[: len(_FOOTER)] == _FOOTER:
                break
            if len(header) < _CHUNK.size:
                raise BrokenError("a xorb is cut short")
            version, packed, compression, unpacked = _CHUNK.unpack(header)
            there, length = int.from_bytes(packed, "little"), int.from_bytes(unpacked, "little")
            position += _CHUNK.size
            if len(self._chunks) == _MOST_CHUNKS:
                raise BrokenError(f"a xorb has more than {_MOST_CHUNKS} chunks")
            if version or compression > GROUPED or length > _LARGEST_CHUNK or position + there > size:
                raise BrokenError("a chunk of a xorb is cut short or of another version")
            self._chunks.append((position, there, compression, length))
            position += there

    def unpacked(self, segment: Segment) -> Iterator[bytes]:
        """The bytes of a segment, chunk by chunk."""
        if not segment.start < segment.end <= len(self._chunks):
            raise BrokenError("a file is made of chunks that its xorb has not")
        if sum(chunk[3] for chunk in self._chunks[segment.start : segment.end]) != segment.bytes:
            raise BrokenError("the chunks of a file have another length than it tells")
        with self._file.open("rb") as file:
            for position, there, compression, length in self._chunks[segment.start : segment.end]:
                file.seek(position)
                yield _unpacked(file.read(there), compression, length)


def _unpacked(content: bytes, compression: int, length: int) -> bytes:
    if compression != NONE:
        try:
            content = LZ4FrameDecompressor().decompress(content, max_length=length + 1)
        except (RuntimeError, EOFError):
            raise BrokenError("a chunk of a xorb cannot be unpacked") from None
    if len(content) != length:
        raise BrokenError("a chunk of a xorb has another length than it tells")
    return _regrouped(content) if compression == GROUPED else content


def _regrouped(content: bytes) -> bytes:
    """Bytes that were sorted by their place among four, in order again."""
    found, position = bytearray(len(content)), 0
    for place in range(4):
        count = len(range(place, len(content), 4))
        found[place::4] = content[position : position + count]
        position += count
    return bytes(found)
