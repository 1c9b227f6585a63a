"""The work of a data step: raw rows are read, converted, split and written; what is left out is counted by reason."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import islice

from tuneforge import Step, StepError
from tuneforge.kit.rows import RowWriter, UnwritableError

from .holdout import is_held_out
from .messages import LeftOutError
from .reading import Rows
from .shapes import Recogniser, Row

_PLACES = 3
"""How many places are named for each reason."""


def collect(
    rows: Rows,
    recognise: Recogniser,
    step: Step,
    *,
    holdout: float,
    limit: int | None = None,
    fits: Callable[[Row], None] | None = None,
    max_left_out: float,
) -> None:
    """Writes the splits, and data.json: {"shape", "read", "kept": {split: rows}, "bytes": {split: length as JSON},
    "left_out": {reason: rows}}.

    `fits` raises LeftOutError for a converted row that does not. Raises StepError if more than `max_left_out`, a share,
    of the rows cannot be used, or if none is left to train on.
    """
    shapes: set[str] = set()
    places: defaultdict[str, list[str]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    read = 0
    with RowWriter(step.out, "train") as train, RowWriter(step.out, "held_out") as held_out:
        for place, raw in islice(rows, limit):
            read += 1
            try:
                shape, row = recognise(raw)
                if fits is not None:
                    fits(row)
                # A text without a prompt is told by itself.
                prompt = row.get("messages") or row["prompt"] or row["completion"]
                (held_out if is_held_out(prompt, holdout) else train).add(row)
                shapes.add(shape)
            except (LeftOutError, UnwritableError) as error:
                reason = str(error) if isinstance(error, LeftOutError) else "not expressible as JSON"
                left_out[reason] += 1
                if len(places[reason]) < _PLACES:
                    places[reason].append(place)
            if read % 1000 == 0:
                step.progress(rows.done, rows.total)
    kept = {"train": train.count, "held_out": held_out.count}
    step.log(f"kept {sum(kept.values())} of {read} rows: {train.count} to train on, {held_out.count} held out")
    for reason, count in left_out.most_common():
        more = ", ..." if count > len(places[reason]) else ""
        step.log(f"left out {count}: {reason} ({', '.join(places[reason])}{more})")
    _judge(read, left_out, max_left_out, train.count)
    summary = {
        "shape": ", ".join(sorted(shapes)),
        "read": read,
        "kept": kept,
        "bytes": {"train": train.bytes, "held_out": held_out.bytes},
        "left_out": dict(sorted(left_out.items())),
    }
    text = json.dumps(summary, ensure_ascii=False, indent=2) + "\n"
    (step.out / "data.json").write_text(text, encoding="utf-8")
    step.metrics(**summary)


def _judge(read: int, left_out: Counter[str], max_left_out: float, train: int) -> None:
    reasons = "; ".join(f"{count} {reason}" for reason, count in left_out.most_common())
    if not read:
        raise StepError("there are no rows in the data", "Give path a file with rows.")
    if left_out.total() == read:
        raise StepError(
            f"none of the {read} rows can be used: {reasons}", "Mend the data, or say with columns what is what."
        )
    if left_out.total() > max_left_out * read:
        raise StepError(
            f"{left_out.total()} of {read} rows cannot be used: {reasons}",
            f"Mend the data, or allow it: max_left_out: {min(1, round(left_out.total() / read + 0.01, 2))}.",
        )
    if not train:
        raise StepError("all rows are held out, none is left to train on", "Lower holdout, or give more prompts.")
