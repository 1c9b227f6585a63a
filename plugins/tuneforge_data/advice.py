"""What can be told of a data step before it runs, from its configuration and the head of its file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import islice
from typing import Literal

from tuneforge import Facts, Finding, StepError

from .asking import PLAIN, PROMPT_SHAPES
from .messages import LeftOutError
from .reading import Rows, counted
from .shapes import CHAT_SHAPES, FEEDBACK_SHAPES, NO_SHAPE, PREFERENCE_SHAPES, TEXT_SHAPES, Recogniser, Shape

Level = Literal["error", "warning"]
Called = Mapping[str, Sequence[str]]
"""What other data sets call each of our columns."""

_HEAD = 50
_FEW = 1000
_LISTED = 12


def on_columns(shape: str, recogniser: Recogniser, known: Sequence[Shape]) -> Iterator[Finding]:
    """Column names that no shape has at once."""
    if recogniser.shapes:
        return
    given = ", ".join(recogniser.renames)
    which = "no shape of rows" if shape == "auto" else f"shape {shape}"
    yield Finding(f"{which} has the columns {given} at once", f"There are: {_described(known)}.", field="columns")


def on_length(max_length: int | None, models: Sequence[Facts]) -> Iterator[Finding]:
    """Tokens can be counted only with a model's tokenizer and template, which serve nothing else."""
    if max_length is None:
        if models:
            fix = "Give max_length, or take model off the step."
            yield Finding("model only serves to count tokens, and there is no max_length", fix, level="warning")
    elif not models:
        yield Finding(
            "max_length counts tokens, and the step has no model to count them with",
            "Wire one beside with: `model: base`.",
            field="max_length",
        )
    elif models[0].tokenizer is not None and models[0].template is None:
        yield Finding(
            "max_length counts tokens as the chat template writes them, and the model has none",
            "Take a chat model, or add a chat_template.jinja to its folder.",
            field="max_length",
        )


def on_rows(
    name: str,
    open_rows: Callable[[], Rows],
    recogniser: Recogniser,
    called: Called,
    limit: int | None,
    max_left_out: float,
) -> Iterator[Finding]:
    """Rows that are not there or of another shape: told by the first ones, so that a large file costs nothing.

    `name` is what the path is called.
    """
    try:
        rows = open_rows()
        package = rows.needed_package
        if package and find_spec(package) is None:
            return
        head = [row for _, row in islice(rows, min(limit or _HEAD, _HEAD))]
    except StepError as error:
        yield Finding(error.finding.problem, error.finding.fix, field="path")
        return
    if not head:
        yield Finding(f"{name} holds no rows", "Give path a file with rows.", field="path")
        return
    columns = list(dict.fromkeys(name for row in head if isinstance(row, Mapping) for name in row))
    reasons = Counter(reason for row in head if (reason := _reason(recogniser, row)))
    left_out = reasons.total()
    lost = list(_on_renames(name, columns, recogniser, "error" if reasons[NO_SHAPE] else "warning"))
    yield from lost
    if reasons[NO_SHAPE] == len(head):
        if not lost:
            problem = f"{name} has the columns {_some(columns)}, which are those of no known shape"
            yield Finding(problem, _fix(columns, recogniser, called), field="path")
    elif left_out > max_left_out * len(head):
        told = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        problem = f"of the first {len(head)} rows of {name}, {left_out} cannot be used: {told}"
        fix = _other_method(columns, recogniser) or "Mend the data, or say with columns what is what."
        yield Finding(problem, fix, "error" if left_out == len(head) else "warning", "path")


def expected(
    open_rows: Callable[[], Rows], recogniser: Recogniser, limit: int | None, holdout: float
) -> tuple[int | None, float | None]:
    """How many rows there will be to train on, and their mean length as JSON, by the first ones; None if unknown."""
    try:
        rows = open_rows()
        package = rows.needed_package
        if package and find_spec(package) is None:
            return None, None
        reading = iter(rows)
        head = [row for _, row in islice(reading, _HEAD)]
        there = counted(rows.files)
        if there is None:
            there = round(len(head) * rows.total / max(rows.done, 1))
            # Readers are ahead of the rows that they have given, of small files by most of them.
            if there < _FEW:
                there = len(head) + sum(1 for _ in islice(reading, _FEW))
    except StepError:  # told by `check`
        return None, None
    sizes = [size for row in head if (size := _size(recogniser, row)) is not None]
    if not sizes:
        return None, None
    usable = min(there, limit or there) * len(sizes) / len(head)
    return round(usable * (1 - holdout)), sum(sizes) / len(sizes)


def _size(recogniser: Recogniser, raw: object) -> int | None:
    try:
        _, row = recogniser(raw)
    except LeftOutError:
        return None
    texts = [
        json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in row.values() if value is not None
    ]
    return sum(len(text.encode(errors="replace")) for text in texts)


def _reason(recogniser: Recogniser, row: object) -> str:
    try:
        recogniser(row)
    except LeftOutError as error:
        return str(error)
    return ""


def _on_renames(name: str, columns: Sequence[str], recogniser: Recogniser, level: Level) -> Iterator[Finding]:
    for ours, theirs in recogniser.renames.items():
        if theirs not in columns:
            near = get_close_matches(theirs, columns, 1, 0.6)
            fix = f"Did you mean {near[0]}?" if near else f"It has {_some(columns)}."
            yield Finding(f"{name} has no column {theirs}", fix, level, f"columns.{ours}")


def _fix(columns: Sequence[str], recogniser: Recogniser, called: Called) -> str:
    other = _other_method(columns, recogniser)
    mapping = next(filter(None, (_mapping(shape, columns, recogniser, called) for shape in recogniser.shapes)), {})
    # Judged answers look like a chat as long as the column of the verdict is not known.
    if other and not (mapping and recogniser.shapes[0] in FEEDBACK_SHAPES):
        return other
    shapes = f"Known are {_described(recogniser.shapes)}."
    if mapping:
        return f"Add `columns: {{{', '.join(f'{ours}: {theirs}' for ours, theirs in mapping.items())}}}`. {shapes}"
    others = (*CHAT_SHAPES, *PREFERENCE_SHAPES)
    alone = PLAIN.fits(columns) and not any(shape.fits(columns) for shape in others)
    if alone and recogniser.shapes[0] in others:
        return "These are rows for `format: prompts`."
    return f"Say with columns what is what, as in `columns: {{{recogniser.shapes[-1].required[0]}: ...}}`. {shapes}"


def _mapping(shape: Shape, columns: Sequence[str], recogniser: Recogniser, called: Called) -> dict[str, str]:
    """A renaming that makes the shape fit; empty if there is none."""
    mapping = dict(recogniser.renames)
    free = {name.lower(): name for name in columns if name not in (*mapping.values(), *shape.columns)}
    for ours in shape.columns:
        if ours in columns or ours in mapping:
            continue
        names = [name for name in called[ours] if name in free] or (
            get_close_matches(ours, free, 1, 0.75) if ours in shape.required else []
        )
        if names:
            mapping[ours] = free.pop(names[0])
        elif ours in shape.required:
            return {}
    return mapping


def _other_method(columns: Sequence[str], recogniser: Recogniser) -> str:
    here = recogniser.shapes[0]
    if here in PROMPT_SHAPES:
        return ""  # it takes what the others take
    if here in FEEDBACK_SHAPES and any(shape.fits(columns) for shape in FEEDBACK_SHAPES):
        return ""  # a chat lacks one of its columns
    methods = {
        "feedback": FEEDBACK_SHAPES,  # before chat, of which it has the columns and one more
        "chat": CHAT_SHAPES,
        "preference": PREFERENCE_SHAPES,
        "completion": TEXT_SHAPES,
    }
    if here in CHAT_SHAPES and any(shape.fits(columns) for shape in CHAT_SHAPES):
        del methods["completion"]  # prompt and completion are columns of both
    for method, shapes in methods.items():
        if here not in shapes and any(shape.fits(columns) for shape in shapes):
            return f"These are rows for `format: {method}`."
    return ""


def _some(columns: Sequence[str]) -> str:
    return ", ".join(columns[:_LISTED]) + (", ..." if len(columns) > _LISTED else "")


def _described(shapes: Sequence[Shape]) -> str:
    return ", ".join(f"{shape.name} ({', '.join(shape.required)})" for shape in shapes)
