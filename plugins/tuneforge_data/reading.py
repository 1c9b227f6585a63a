"""Raw rows out of files: JSON arrays, JSON lines, CSV, Parquet and plain text, always in a stream.

ijson and pyarrow are imported only once a file needs them: a plan reads the head of a file and has no time for more.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

from tuneforge import StepError

from .messages import LeftOutError

_LONGEST_CELL = 2**31 - 1
_BOM = b"\xef\xbb\xbf"
_AT_ONCE = 1 << 20

Numbered = Iterator[tuple[str, object]]
"""Rows, each with its place inside the file; a LeftOutError stands for a row that could not be read."""

Readers = Mapping[str, Callable[[IO[bytes]], Numbered]]
"""How files are read, by the end of their names."""


class Rows:
    """The rows of a file, or of those data files of a folder that match `files`, in the order of their names.

    Of a folder that others write into as well, `only` names the files.
    Iterating yields (place, row); `done` of `total` bytes are read so far. Raises StepError for what is not there or
    cannot be read as a whole; a single broken line is a row that is left out.
    """

    def __init__(
        self, path: Path, files: str = "**/*", readers: Readers | None = None, only: Sequence[str] | None = None
    ) -> None:
        self._readers = TABLES if readers is None else readers
        self.files = _data_files(path, files, self._readers) if only is None else [path / name for name in only]
        self.total = sum(file.stat().st_size for file in self.files)
        self.done = 0

    def __iter__(self) -> Iterator[tuple[str, object]]:
        finished = 0
        for file in self.files:
            place = file.name
            try:
                with file.open("rb") as raw, _unpacked(file, raw) as content:
                    for inside, row in self._readers[_suffix(file)](content):
                        place = f"{file.name}{inside}"
                        self.done = finished + raw.tell()
                        yield place, row
            except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
                where = "" if place == file.name else f" after {place}"
                raise StepError(
                    f"{file} cannot be read{where}: {error}", "Is it complete, and what its name says?"
                ) from error
            finished += file.stat().st_size
            self.done = finished

    @property
    def needed_package(self) -> str:
        """The package without which the first file cannot be read; empty for none."""
        return {".json": "ijson", ".parquet": "pyarrow"}.get(_suffix(self.files[0]), "")


def counted(files: Sequence[Path]) -> int | None:
    """How many rows files have, if they say so themselves, as Parquet does."""
    if any(_suffix(file) != ".parquet" for file in files):
        return None
    import pyarrow.parquet as pq

    counts: list[int] = [pq.read_metadata(file).num_rows for file in files]
    return sum(counts)


def _suffix(file: Path) -> str:
    name = file.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _data_files(path: Path, pattern: str, readers: Readers) -> list[Path]:
    known = ", ".join(readers)
    if path.is_dir():
        found = (file for file in path.glob(pattern) if _suffix(file) in readers and not file.name.startswith("."))
        files = sorted((file for file in found if file.is_file()), key=lambda file: file.relative_to(path).as_posix())
        if not files:
            which = "" if pattern == "**/*" else f" that matches {pattern}"
            raise StepError(f"{path} holds no file of rows{which}", f"Rows are read from {known}.")
        return files
    if not path.exists():
        raise StepError(f"{path} does not exist", _nearest(path, readers))
    if _suffix(path) not in readers:
        raise StepError(f"{path.name}: its name does not end in {known}", "Convert it to one of these, or rename it.")
    return [path]


def _nearest(path: Path, readers: Readers) -> str:
    if not path.parent.is_dir():
        fix = "Its folder does not exist either; a path is relative to the recipe"
        return f"{fix}, and a data set of the Hub is given as repo: owner/name."
    names = sorted(file.name for file in path.parent.iterdir() if _suffix(file) in readers or file.is_dir())
    near = get_close_matches(path.name, names, 1, 0.6)
    if near:
        return f"Did you mean {path.with_name(near[0])}?"
    return f"Its folder holds {', '.join(names[:5])}." if names else "A path is relative to the recipe."


def _unpacked(file: Path, raw: IO[bytes]) -> IO[bytes]:
    return gzip.open(raw) if file.name.lower().endswith(".gz") else raw  # type: ignore[return-value]


def _read_json(file: IO[bytes]) -> Numbered:
    start = file.read(4096)
    begun = start.removeprefix(_BOM).lstrip()
    file.seek(len(_BOM) if start.startswith(_BOM) else 0)
    if not begun:
        return iter(())
    if begun.startswith(b"["):
        return _read_array(file)
    # Many a data set keeps JSON lines under this name.
    first = file.readline()
    file.seek(0)
    if isinstance(_parse_line(first), LeftOutError):
        raise ValueError("it is neither an array of rows nor one row a line")
    return _read_lines(file)


def _read_array(file: IO[bytes]) -> Numbered:
    import ijson

    try:
        for number, row in enumerate(ijson.items(file, "item"), 1):
            yield f" row {number}", _with_floats(row)
    except ijson.JSONError as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _with_floats(value: Any) -> Any:
    # ijson's own floats come with integers of 64 bits at most, and an error for any larger one in a whole file.
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _with_floats(inner) for key, inner in value.items()}
    return [_with_floats(inner) for inner in value] if isinstance(value, list) else value


def _read_lines(file: IO[bytes]) -> Numbered:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield f":{number}", _parse_line(line)


def _parse_line(line: bytes) -> object:
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return LeftOutError("broken JSON")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _read_csv(file: IO[bytes], delimiter: str = ",") -> Numbered:
    csv.field_size_limit(_LONGEST_CELL)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.DictReader(text, delimiter=delimiter)
    for row in reader:
        odd = None in row or None in row.values()
        yield f":{reader.line_num}", LeftOutError("other cells than the header names") if odd else row


def _read_tsv(file: IO[bytes]) -> Numbered:
    return _read_csv(file, "\t")


def _read_parquet(file: IO[bytes]) -> Numbered:
    import pyarrow.parquet as pq

    number = 0
    for batch in pq.ParquetFile(file).iter_batches(batch_size=256):
        for row in batch.to_pylist(maps_as_pydicts="strict"):
            number += 1
            yield f" row {number}", {name: _without_nulls(value) for name, value in row.items()}


def _without_nulls(value: Any) -> Any:
    # Arrow gives every object the keys of all others: a null inside one stands for a key that is not there.
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def texts(separator: str | None) -> Readers:
    """Readers of plain text in UTF-8, each row {"text": ...}: a whole file, or what lies between separators.

    Line ends become \\n. Between separators, line breaks around a text are not part of it, and white space alone is
    no text.
    """

    def read(file: IO[bytes]) -> Numbered:
        if separator is None:
            whole = file.read().removeprefix(_BOM).replace(b"\r\n", b"\n")
            return iter([("", _decoded(whole))])
        return _between(separator.replace("\r\n", "\n").encode(), file)

    return dict.fromkeys((".txt", ".md"), read)


def _between(separator: bytes, file: IO[bytes]) -> Numbered:
    # Split as bytes, which UTF-8 allows: what is not UTF-8 then costs one text and not all that follow.
    number, rest, more = 0, b"", True
    while more:
        chunk = file.read(_AT_ONCE)
        if chunk.endswith(b"\r"):  # the other half of a line end may follow
            chunk += file.read(1)
        more = bool(chunk)
        *whole, rest = (rest + chunk.replace(b"\r\n", b"\n")).split(separator)
        for text in whole if more else [*whole, rest]:
            # The mark can only be at the beginning of the file.
            text = (text if number else text.removeprefix(_BOM)).strip(b"\n")
            if text.strip():
                number += 1
                yield f" text {number}", _decoded(text)


def _decoded(text: bytes) -> object:
    try:
        return {"text": text.decode()}
    except UnicodeDecodeError:
        return LeftOutError("not UTF-8")


TABLES: Readers = {
    ".json": _read_json,
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
"""Files of rows with columns."""
