"""What the next step needs is imported while this one works."""

from __future__ import annotations

import json

import pytest

from tests.core.bench import Bench, statuses

PLUGIN = '''
import json
import os
import time
from pathlib import Path

from tuneforge import Format, Report, Step, StepError, Train, hookimpl


class Waits(Format):
    """Works until the engine of another method is there."""

    name = "waits"
    output = Report

    def run(self, step: Step) -> None:
        until = time.monotonic() + 30
        while not Path(os.environ["TOLD"]).exists():
            if time.monotonic() > until:
                raise StepError("nobody imports the engine of the next step")
            time.sleep(0.01)
        (step.out / "report.json").write_text(json.dumps({"scores": {}}))


class Heavy(Train):
    """Takes long to import."""

    name = "heavy"
    engine = "heavy_engine"
    output = Report

    def run(self, report: Report, step: Step) -> None:
        import heavy_engine

        (step.out / "report.json").write_text(json.dumps({"scores": {}, "server": heavy_engine.SERVER}))


@hookimpl
def register_format() -> list[type[Format]]:
    return [Waits]


@hookimpl
def register_train() -> list[type[Train]]:
    return [Heavy]
'''
ENGINE = """
import os
from pathlib import Path

SERVER = os.getpid()
Path(os.environ["TOLD"]).write_text(str(SERVER))
"""
RECIPE = """steps:
  first: {format: waits}
  second: {train: heavy, report: first}
"""


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["", "raise SystemExit(3)"])
def test_the_next_steps_engine_is_imported_while_a_step_works(bench: Bench, trouble: str) -> None:
    """By the server, once; and an engine that cannot be imported hurts its own step alone."""
    told = bench.folder / "told"
    (bench.folder / "plugin.py").write_text(PLUGIN)
    (bench.folder / "heavy_engine.py").write_text(ENGINE + trouble)
    (bench.folder / "r.yaml").write_text(f"plugins: [plugin.py]\n{RECIPE}")

    ended = bench.finish("run", "r.yaml", "--json", PYTHONPATH=str(bench.folder), TOLD=str(told))

    assert ended.code == (1 if trouble else 0), ended.err
    assert statuses(ended.json) == {"first": "done", "second": "failed" if trouble else "done"}
    if not trouble:
        (report,) = (bench.home / "trees").glob(f"{ended.json['steps'][1]['digest']}/report.json")
        assert json.loads(report.read_text())["server"] == int(told.read_text())
