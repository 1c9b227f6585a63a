"""The rows of a data artifact: sharded Parquet, written and read in a stream.

Every column holds JSON text, a missing value is null. Arrow would otherwise unify the objects nested in a column, and
give every tool call the arguments of all the others, as nulls. The keys of an object keep their order: chat templates
show it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tuneforge import ChatData, PreferenceData, PromptData, TextData

Data = ChatData | PreferenceData | PromptData | TextData
Split = Literal["train", "held_out"]

ROWS_PER_GROUP = 1_000
ROWS_PER_SHARD = 100_000


class UnwritableError(ValueError):
    """A row with a value that JSON or UTF-8 lacks: NaN, half of a surrogate pair, a date."""


class RowWriter:
    """Writes one split row by row; a split without rows leaves no file.

    The bytes depend on the rows and on pyarrow's version alone. All rows must have the columns of the first. `count` is
    how many there are, `bytes` their length as JSON.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.count = self.bytes = 0
        self._folder, self._split = folder, split
        self._columns: dict[str, list[bytes | None]] = {}
        self._shard: Any = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Raises UnwritableError, and leaves the row out then."""
        texts = {name: None if value is None else _to_json(value) for name, value in row.items()}
        if not self.count:
            self._columns = {name: [] for name in row}
        if row.keys() != self._columns.keys():
            raise TypeError(f"row {self.count} has columns {[*row]}, the first had {[*self._columns]}")
        for name, text in texts.items():
            self._columns[name].append(text)
        self.count += 1
        self.bytes += sum(len(text) for text in texts.values() if text is not None)
        if self.count % ROWS_PER_GROUP == 0:
            self._write_group()
        if self.count % ROWS_PER_SHARD == 0:
            self._close_shard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None and any(self._columns.values()):
            self._write_group()
        self._close_shard()

    def _write_group(self) -> None:
        schema = pa.schema([(name, pa.string()) for name in self._columns])
        if self._shard is None:
            number = (self.count - 1) // ROWS_PER_SHARD
            # Statistics, dictionaries and Arrow's own schema help nobody here, and are bytes that versions may change.
            self._shard = pq.ParquetWriter(
                self._folder / f"{self._split}-{number:05d}.parquet",
                schema,
                version="2.6",
                compression="zstd",
                compression_level=3,
                data_page_size=1 << 20,
                use_dictionary=False,
                write_statistics=False,
                store_schema=False,
            )
        self._shard.write_table(pa.table(self._columns, schema=schema), row_group_size=ROWS_PER_GROUP)
        for values in self._columns.values():
            values.clear()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._shard = None


def write_rows(folder: Path, split: Split, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes `rows` as the given split of the data artifact in `folder`, and returns how many they were."""
    with RowWriter(folder, split) as writer:
        for row in rows:
            writer.add(row)
    return writer.count


def read_rows(data: Data, split: Split) -> Iterator[dict[str, Any]]:
    """The rows of a split in their order, a few in memory at a time; none when the artifact has no such split."""
    for path in _shards(data, split):
        with pq.ParquetFile(path) as shard:
            for batch in shard.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    yield {name: None if text is None else json.loads(text) for name, text in row.items()}


def count_rows(data: Data, split: Split) -> int:
    """How many rows a split has, from the files' footers."""
    return sum(pq.read_metadata(path).num_rows for path in _shards(data, split))


def draw(data: Data, most: int, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """At most so many training rows drawn by a seed, in their order: each with its place in the order of drawing."""
    count = count_rows(data, "train")
    drawn = random.Random(seed).sample(range(count), min(most, count))
    places = {index: place for place, index in enumerate(drawn)}
    for index, row in enumerate(read_rows(data, "train")):
        if index in places:
            yield places[index], row


def _to_json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UnwritableError(str(error)) from error


def _shards(data: Data, split: Split) -> list[Path]:
    return sorted(data.path.glob(f"{split}-*.parquet"))
