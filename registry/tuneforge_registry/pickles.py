"""Whether a file is a pickle, by its content: nothing is loaded, the opcodes are only followed.

A pickle is a program for a small machine with a stack; what makes it dangerous is that it may name any function and
call it. Found are pickles of every protocol, and what carries them: the archives of torch (zip, and the tar and
the row of pickles of older versions), and arrays of objects of numpy.
"""

from __future__ import annotations

import pickletools
import re
import struct
from ast import literal_eval
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any

SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".pt2", ".ptl")
"""Of files that their readers take for pickles, whatever is in them. `.bin` is judged by its content."""
_PACKED = re.compile(r"\.(gz|bz2|xz|lzma|zst|lz4|z|zip)$")
"""After a suffix: pandas, joblib and others unpack such a file and load what is in it."""

_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: "<B",
    pickletools.TAKEN_FROM_ARGUMENT4: "<i",
    pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
    pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
}
_NAMES = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
_CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
_CALLS |= {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"}  # methods of what was named, os.environ for one
_LINES = (
    dict.fromkeys(("GLOBAL", "INST"), re.compile(r"\s*[\w.-]+\s*$"))
    | dict.fromkeys(("INT", "LONG", "GET", "PUT"), re.compile(r"[\s+-]*\d"))
    | {"FLOAT": re.compile(r"[\s+-]*[\d.inIN]"), "STRING": re.compile(r"\s*['\"]")}
)
"""How arguments that are lines must begin for the machine to go on; few texts that begin like an opcode do so."""

_PLAIN_TYPE = re.compile(r"[|<>=]?([?biufcSUVmM]\d*)(\[\w+\])?")
_ENOUGH = 100_000  # opcodes: what has run so far without a fault is no accident
_DIRECTORY = 4 << 20  # bytes of a zip's directory
_MEMBERS = 10_000  # of a tar
_LONG_NAME = 4096  # bytes of a member that tells the name of the next
_TELLS_NAMES = (b"L", b"K", b"x", b"g", b"X")
_ARRAY_HEADER = 10_000  # bytes, as numpy has it


def named(path: str) -> str | None:
    """Of a path that is a pickle's by its name, packed or not, the suffix that says so; else None."""
    plain = _PACKED.sub("", path.lower())
    return next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), None)


def found(file: Path, path: str) -> str | None:
    """What `file` is, if it is a pickle or carries one, as words that go after "is"; None if it does not.

    `path` is its name in the artifact. Reads a few kilobytes, more only of what is a pickle so far.
    """
    if suffix := named(path):
        return f"a pickle by its name (*{suffix})"
    if file.stat().st_size == 0:
        return None
    with file.open("rb") as stream:
        if _objects(stream):
            return "an array of Python objects"
        with mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
            if is_pickle(content):
                return "a pickle"
            # What looks like one kind to us may be read as another.
            return _in_tar(content) or _in_zip(file, content)


def is_pickle(content: Any) -> bool:
    """Whether `content` (bytes, or an mmap) begins with a pickle: one that calls something, or one that ends."""
    position = height = steps = 0
    marks: list[int] = []
    marked = content[0] == 0x80  # with a protocol: 2 and above
    named = False
    while steps < _ENOUGH:
        if position >= len(content):
            return False
        opcode = _OPCODES.get(content[position])
        if opcode is None or (opcode.name == "PERSID" and not marked):  # PAR1, PK, PNG: no such pickle is in use
            return False
        if opcode.name == "STOP":
            # Without a protocol, text may happen to be one; a pickle of plain data ends where its file does.
            return height > 0 and (marked or position + 1 == len(content))
        end = _after(content, position + 1, opcode)
        if end is None:
            return False
        position, steps = end, steps + 1
        # The stack, by its height: nothing that comes after a fault is run.
        if opcode.name == "POP" and marks and marks[-1] == height:
            marks.pop()
            continue
        if pickletools.markobject in opcode.stack_before:
            if not marks:
                return False
            height = marks.pop() - opcode.stack_before.index(pickletools.markobject)
        else:
            height -= len(opcode.stack_before)
        if height < (marks[-1] if marks else 0):
            return False
        if opcode.name == "MARK":
            marks.append(height)
        else:
            height += len(opcode.stack_after)
        named = named or opcode.name in _NAMES
        if named and (marked or opcode.name in _CALLS):
            return True
    return True


def _after(content: Any, position: int, opcode: pickletools.OpcodeInfo) -> int | None:
    """Where the argument of an opcode ends that begins at `position`; None if it has not the form that it must have."""
    if opcode.arg is None:
        return position
    if opcode.arg.n >= 0:
        end = position + opcode.arg.n
    elif opcode.arg.n == pickletools.UP_TO_NEWLINE:
        form = _LINES.get(opcode.name)
        for _ in range(2 if opcode.name in ("GLOBAL", "INST") else 1):
            end = content.find(b"\n", position) + 1
            line = content[position : min(end, position + 1000)].decode("utf-8", "replace")
            if not end or (form and not form.match(line)):
                return None
            position = end
    else:
        counted = _LENGTHS[opcode.arg.n]
        if position + struct.calcsize(counted) > len(content):
            return None
        (length,) = struct.unpack_from(counted, content, position)
        end = position + struct.calcsize(counted) + length
        if length < 0:
            return None
    return end if end <= len(content) else None


def _objects(stream: IO[bytes]) -> bool:
    """Whether it is a .npy file that holds objects, or tells its type in a way that cannot be read."""
    head = stream.read(12)
    if head[:6] != b"\x93NUMPY" or len(head) < 12:
        return False
    wide = head[6] > 1
    length = int.from_bytes(head[8:12] if wide else head[8:10], "little")
    if length > _ARRAY_HEADER:
        return True
    text = ((b"" if wide else head[10:]) + stream.read(length - (0 if wide else 2))).decode("latin-1")
    try:
        return not all(map(_PLAIN_TYPE.fullmatch, _types(literal_eval(text.strip())["descr"])))
    except (ValueError, SyntaxError, KeyError, TypeError, IndexError, MemoryError, RecursionError):
        return True


def _types(described: Any) -> Iterator[str]:
    """The types in what a .npy file tells of its elements: a type, (type, shape), or a list of (name, type, shape)."""
    if isinstance(described, list):
        for field in described:
            yield from _types(field[1])
    elif isinstance(described, tuple):
        yield from _types(described[0])
    else:
        yield described


def _in_zip(file: Path, content: Any) -> str | None:
    import zipfile

    if content[:2] == b"PK" and content.find(b"data.pkl") >= 0:  # whichever directory a reader goes by
        return "an archive with a pickle (data.pkl)"
    end = content.rfind(b"PK\x05\x06", max(0, len(content) - (1 << 16) - 22))
    if end < 0 or end + 16 > len(content):
        return "an archive that is cut short" if content[:4] == b"PK\x03\x04" else None
    if int.from_bytes(content[end + 12 : end + 16], "little") > _DIRECTORY:
        return "an archive too large to look through"
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                if named(member):
                    return f"an archive with a pickle ({member[:80]})"
                if member.lower().endswith(".npy"):
                    with archive.open(member) as array:
                        if _objects(array):
                            return f"an archive with an array of Python objects ({member[:80]})"
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError):
        return "an archive that cannot be looked through" if content[:2] == b"PK" else None
    return None


def _in_tar(content: Any) -> str | None:
    """Looks at the headers alone, one block each: other readers take what these tell into memory."""
    if content[257:262] != b"ustar" and content[:7] != b"pickle\0":
        return None
    import tarfile

    position = 0
    for _ in range(_MEMBERS):
        block = content[position : position + tarfile.BLOCKSIZE]
        if not block.strip(b"\0"):
            return None
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return "an archive that cannot be looked through" if position else None
        position += tarfile.BLOCKSIZE
        names = member.name.encode("utf-8", "surrogateescape")
        if member.type in _TELLS_NAMES:
            if member.size > _LONG_NAME:
                return "an archive that cannot be looked through"
            names = content[position : position + member.size]
        if b"pickle" in names or any(suffix.encode() in names.lower() for suffix in SUFFIXES):
            return f"an archive with a pickle ({names[:80].decode('utf-8', 'replace')})"
        position += -(-max(member.size, 0) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return "an archive too large to look through"
