"""Rows of a data artifact as tokens in an Arrow file; those that cannot be learnt from are left out and counted."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from tuneforge import Step, StepError
from tuneforge.disk import persist
from tuneforge.kit.chats import IGNORED, ChatRefusedError
from tuneforge.kit.rows import Split

HELD_OUT_TOKENS = 50_000
"""About how many held-out tokens a training is measured on when it ends; more is the work of an evaluation."""

_BESIDE = ("labels", "mask", "margin", "told")
"""How the columns are called that tell something of the tokens of another one."""

Row = Mapping[str, Any]
Columns = dict[str, list[Any]]
"""Columns of tokens, and what else is told of a row, by name: lists of integers, floats or texts, never empty."""

_KINDS = {int: pa.int32(), float: pa.float32(), str: pa.string()}


class LeftOutError(Exception):
    """A row that cannot be learnt from; its text is the reason, the same for all rows of that kind."""


def check_fit(ids: list[int], labels: list[int], longest: int) -> None:
    """Raises LeftOutError for a row that is too long, or that has nothing under loss."""
    if len(ids) > longest:
        raise LeftOutError(f"longer than {longest} tokens")
    if all(label == IGNORED for label in labels):
        raise LeftOutError("without an answer of the assistant")


@dataclass(frozen=True)
class Tokens:
    """The rows of a split as token columns: how many were kept, and how many left out, by reason."""

    kept: int
    left_out: dict[str, int]
    path: Path

    @property
    def dataset(self) -> Dataset:
        """The rows, of which there is one at least, mapped from the file while they are used."""
        return Dataset.from_file(str(self.path))


def write_tokens(
    rows: Iterable[Row],
    convert: Callable[[Row], Columns],
    split: Split,
    step: Step,
    most: float = math.inf,
    arrange: Callable[[Iterable[Columns]], Iterator[Columns]] = iter,
) -> None:
    """Writes a split as token columns into the step's scratch folder, where `read_tokens` finds it, unless it is there.

    `convert` makes the columns of a row, or raises LeftOutError; `arrange` makes of these the rows that are written.
    Rows are taken until there are `most` tokens. Raises StepError if more than half of the rows to train on are left
    out.
    """
    if _counts(split, step).exists():
        return
    path = _arrow(split, step)
    path.parent.mkdir(exist_ok=True)
    usable = _Usable(rows, convert, step, most)
    _write(path, arrange(usable))
    kept, left_out = usable.kept, usable.left_out
    lost = left_out.total()
    total = kept + lost
    for reason, count in sorted(left_out.items()):
        tell = step.warn if lost > 0.1 * total else step.log
        tell(f"{split}: {count} of {total} rows left out: {reason}")
    # Too few held-out rows make a poor figure, and are no reason not to train.
    if split == "train" and (not kept or 2 * lost > total):
        reasons = "; ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        problem = f"{lost} of {total} rows cannot be learnt from" if kept else "no row is left"
        raise StepError(
            f"there is too little to learn from: {problem} ({reasons or 'the data has none'})",
            "Raise max_length, or mend the rows: look at what the format step made of the data.",
        )
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"kept": kept, "left_out": dict(left_out)}), encoding="utf-8")
    persist(path.parent)
    beside.rename(_counts(split, step))


def read_tokens(split: Split, step: Step) -> Tokens:
    """What `write_tokens` has written for this step."""
    counts = json.loads(_counts(split, step).read_text(encoding="utf-8"))
    return Tokens(counts["kept"], counts["left_out"], _arrow(split, step))


class _Usable:
    """Rows as columns; those that cannot be learnt from are counted."""

    def __init__(self, rows: Iterable[Row], convert: Callable[[Row], Columns], step: Step, most: float) -> None:
        self._rows, self._convert, self._step, self._most = rows, convert, step, most
        self.kept = 0
        self.left_out: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Columns]:
        for row in self._rows:
            try:
                columns = self._convert(row)
            except LeftOutError as reason:
                self.left_out[str(reason)] += 1
            except ChatRefusedError as error:
                if not self.left_out["refused by the chat template"]:
                    self._step.log(str(error))
                self.left_out["refused by the chat template"] += 1
            else:
                self.kept += 1
                yield columns
                self._most -= sum(len(column) for name, column in columns.items() if not name.endswith(_BESIDE))
                if self._most <= 0:
                    return


def _arrow(split: Split, step: Step) -> Path:
    return step.scratch / "rows" / f"{split}.arrow"


def _counts(split: Split, step: Step) -> Path:
    return _arrow(split, step).with_suffix(".json")


def _write(path: Path, rows: Iterator[Columns]) -> None:
    first = next(rows, None)
    if first is None:
        return
    schema = pa.schema([(name, pa.list_(_KINDS[type(values[0])])) for name, values in first.items()])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        batch = [first]
        while batch:
            stream.write_batch(pa.RecordBatch.from_pylist(batch, schema))
            batch = list(islice(rows, 1000))


def lengths(rows: Dataset, column: str) -> list[int]:
    """How many tokens each row has."""
    found: list[int] = pc.list_value_length(rows.data.column(column)).to_pylist()
    return found
