"""Data methods carried out without a runner."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hubs import hub, served  # noqa: F401 - fixtures
from tuneforge import Model, Step
from tuneforge.kit.rows import read_rows
from tuneforge_data.options import DataFormat


@dataclass(frozen=True)
class Outcome:
    """What a data step wrote and told."""

    folder: Path
    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    summary: dict[str, Any]
    log: list[str]
    progress: list[tuple[float, float]]
    metrics: dict[str, Any]


CarryOut = Callable[..., Outcome]


@pytest.fixture(scope="session")
def carry_out(tmp_path_factory: pytest.TempPathFactory) -> CarryOut:
    def carry_out(method: DataFormat, model: Model | None = None) -> Outcome:
        folder = tmp_path_factory.mktemp("out")
        events: list[dict[str, Any]] = []
        step = Step("rows", folder, folder, seed=1, threads=1, send=events.append)
        inputs = {"model": model} if model is not None else {}
        method.run(**inputs, step=step)
        data: Any = method.output(folder, "digest")
        return Outcome(
            folder,
            list(read_rows(data, "train")),
            list(read_rows(data, "held_out")),
            json.loads((folder / "data.json").read_text(encoding="utf-8")),
            [event["text"] for event in events if event["event"] == "log"],
            [(event["done"], event["total"]) for event in events if event["event"] == "progress"],
            step.figures,
        )

    return carry_out


Written = Callable[[Sequence[object]], Path]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Rows as a file of JSON lines."""

    def written(rows: Sequence[object]) -> Path:
        path = tmp_path_factory.mktemp("in") / "rows.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return path

    return written


Converted = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def converted(carry_out: CarryOut, written: Written) -> Converted:
    """What one raw row becomes."""

    def converted(kind: type[DataFormat], row: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        (only,) = carry_out(kind(path=written([row]), **options)).train
        return only

    return converted
