"""What the reference gives to every row, computed once, before the training, and kept through a crash."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset

from tuneforge import Adapter, Model, Step
from tuneforge.disk import persist, persist_name
from tuneforge.kit.models import load_model

from ..rows.tokens import Tokens
from ..spread.ranks import agreed, met
from .answers import make_able

_PART = 512
"""Rows that are computed before what was found is kept; the ranks of a training take such parts in turns."""

Compute = Callable[[Any, list[dict[str, Any]]], list[list[float]]]
"""Of a loaded model and some rows: the log-probabilities of each, as the batches of the training have them."""


class Precomputing:
    """Computes the log-probabilities that the artifact `reference` gives, `micro` rows at a time."""

    def __init__(self, reference: Model | Adapter, dtype: torch.dtype, step: Step, micro: int) -> None:
        self._reference, self._dtype, self._step, self._micro = reference, dtype, step, micro
        self._model: Any = None

    def of(self, rows: Tokens, compute: Compute) -> Tokens:
        """The rows with another column, `reference`: as they were left by an earlier run, or computed now."""
        path = rows.path.with_name(f"{rows.path.stem}-referred.arrow")
        if not rows.kept:
            return rows
        if not agreed(path.exists()):
            folder = rows.path.with_name(f"{rows.path.stem}-reference")
            parts = self._compute(rows.dataset, folder, compute)
            met()
            if not self._step.rank:
                _join(rows.dataset, parts, path)
            met()
        return replace(rows, path=path)

    def done(self) -> None:
        """Frees the model."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _compute(self, rows: Dataset, folder: Path, compute: Compute) -> list[Path]:
        folder.mkdir(exist_ok=True)
        starts = range(0, len(rows), _PART)
        parts = [folder / f"{start:09d}.json" for start in starts]
        for place, (start, part) in enumerate(zip(starts, parts, strict=True)):
            if place % self._step.world_size != self._step.rank or part.exists():
                continue
            if self._model is None:
                self._model = load_model(self._reference, dtype=self._dtype)
                make_able(self._model)
            found: list[list[float]] = []
            end = min(start + _PART, len(rows))
            self._step.log(f"the reference's log-probabilities: rows {start + 1:,} to {end:,} of {len(rows):,}")
            for first in range(start, end, self._micro):
                found += compute(self._model, [rows[row] for row in range(first, min(first + self._micro, end))])
            beside = part.with_suffix(".new")
            beside.write_text(json.dumps(found), encoding="utf-8")
            persist(beside)
            beside.rename(part)
            persist_name(part)
        return parts


def _join(rows: Dataset, parts: list[Path], path: Path) -> None:
    values = [row for part in parts for row in json.loads(part.read_text(encoding="utf-8"))]
    table = rows.data.table.append_column("reference", pa.array(values, pa.list_(pa.float32())))
    beside = path.with_suffix(".new")
    with pa.OSFile(str(beside), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    persist(beside)
    beside.rename(path)
    persist_name(path)
