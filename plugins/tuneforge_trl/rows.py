"""Rows of a data artifact as tokens in an Arrow file; those that cannot be learnt from are left out and counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from tuneforge import Step, StepError
from tuneforge.kit.chats import IGNORED, ChatRefusedError
from tuneforge.kit.rows import Split

HELD_OUT_TOKENS = 50_000
"""About how many held-out tokens a training is measured on when it ends; more is the work of an evaluation."""

Row = Mapping[str, Any]
Columns = dict[str, list[int]]


class LeftOutError(Exception):
    """A row that cannot be learnt from; its text is the reason, the same for all rows of that kind."""


def check_fit(ids: list[int], labels: list[int], longest: int) -> None:
    """Raises LeftOutError for a row that is too long, or that has nothing under loss."""
    if len(ids) > longest:
        raise LeftOutError(f"longer than {longest} tokens")
    if all(label == IGNORED for label in labels):
        raise LeftOutError("without an answer of the assistant")


class Tokenized:
    """Rows as token columns, in a file of the step's scratch folder from which they are mapped while they are used.

    `convert` makes the columns of a row, each token with its label or mask, or raises LeftOutError; `left_out` counts
    the rows it made none of, by reason. Rows are taken until there are `most` tokens. Raises StepError if more than
    half of the rows to train on are left out.
    """

    def __init__(
        self, rows: Iterable[Row], convert: Callable[[Row], Columns], split: Split, step: Step, most: float = math.inf
    ) -> None:
        self.left_out: Counter[str] = Counter()
        self._most = most
        self.kept = 0
        self._path = step.scratch / f"{split}.arrow"
        self._write(self._usable(rows, convert, step))
        lost = self.left_out.total()
        total = self.kept + lost
        mark = "warning: " if lost > 0.1 * total else ""
        for reason, count in sorted(self.left_out.items()):
            step.log(f"{mark}{split}: {count} of {total} rows left out: {reason}")
        # Too few held-out rows make a poor figure, and are no reason not to train.
        if split == "train" and (not self.kept or 2 * lost > total):
            reasons = "; ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
            problem = f"{lost} of {total} rows cannot be learnt from" if self.kept else "no row is left"
            raise StepError(
                f"there is too little to learn from: {problem} ({reasons or 'the data has none'})",
                "Raise max_length, or mend the rows: look at what the format step made of the data.",
            )

    @property
    def dataset(self) -> Dataset:
        """The rows, of which there is one at least."""
        return Dataset.from_file(str(self._path))

    def _usable(self, rows: Iterable[Row], convert: Callable[[Row], Columns], step: Step) -> Iterator[Columns]:
        for row in rows:
            try:
                columns = convert(row)
            except LeftOutError as reason:
                self.left_out[str(reason)] += 1
            except ChatRefusedError as error:
                if not self.left_out["refused by the chat template"]:
                    step.log(str(error))
                self.left_out["refused by the chat template"] += 1
            else:
                self.kept += 1
                yield columns
                self._most -= sum(map(len, columns.values())) / 2
                if self._most <= 0:
                    return

    def _write(self, rows: Iterator[Columns]) -> None:
        first = next(rows, None)
        if first is None:
            return
        schema = pa.schema([(name, pa.list_(pa.int32())) for name in first])
        with pa.OSFile(str(self._path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            batch = [first]
            while batch:
                stream.write_batch(pa.RecordBatch.from_pylist(batch, schema))
                batch = list(islice(rows, 1000))


def lengths(rows: Dataset, column: str) -> list[int]:
    """How many tokens each row has."""
    found: list[int] = pc.list_value_length(rows.data.column(column)).to_pylist()
    return found
