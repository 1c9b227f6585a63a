"""Recipes of toy methods, read, planned and carried out in a folder of their own; and what is asked of the results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tuneforge.cli import main
from tuneforge.errors import Finding
from tuneforge.events import Event, Logged
from tuneforge.plan import Plan, make_plan
from tuneforge.recipe import Recipe, read_recipe
from tuneforge.runner import Run
from tuneforge_registry import Registry

TOYS = Path(__file__).with_name("toys.py")


@dataclass
class Bench:
    """A folder with recipes, a text and a registry. Line 1 of every recipe names the toys; what is written follows."""

    folder: Path
    home: Path
    events: list[Event] = field(default_factory=list)

    def write(self, recipe: str, name: str = "recipe.yaml") -> Path:
        path = self.folder / name
        path.write_text(f"plugins: [{TOYS}]\n{recipe}", encoding="utf-8")
        return path

    def read(self, recipe: str, *settings: str) -> Recipe:
        return read_recipe(self.write(recipe), settings)

    def plan(self, recipe: str, *settings: str, **options: Any) -> Plan:
        return make_plan(self.read(recipe, *settings), Registry(self.home), **options)

    def run(self, recipe: str, *settings: str, **options: Any) -> dict[str, Any]:
        """The record of a run; refuses a plan with errors, as the command does."""
        plan = self.plan(recipe, *settings, **options)
        assert not plan.errors, told(plan.findings)
        self.events.clear()
        return Run(plan, self.events.append, threads=1).carry_out()

    def said(self) -> list[str]:
        """What the last run's steps logged."""
        return [event.text for event in self.events if isinstance(event, Logged)]

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """The command line, as another process."""
        return subprocess.Popen(
            [sys.executable, "-m", "tuneforge.cli", *arguments],
            cwd=self.folder,
            env=os.environ | {"TUNEFORGE_HOME": str(self.home)} | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Where the tests themselves run in the background, an interrupt is ignored, and that is inherited.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
        )

    def finish(self, *arguments: str, **settings: str) -> Ended:
        """The command line, as another process, to its end."""
        process = self.start(*arguments, **settings)
        out, err = process.communicate(timeout=120)
        return Ended(process.returncode, out, err)

    def command(self, *arguments: str, **settings: str) -> Ended:
        """The command line, in this process."""
        out, err = StringIO(), StringIO()
        code: Any = 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["tuneforge", *arguments])
            for name, value in ({"TUNEFORGE_HOME": str(self.home)} | settings).items():
                patch.setenv(name, value)
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
        return Ended(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one document of strict JSON."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


def told(findings: list[Finding]) -> list[str]:
    return [str(finding) for finding in findings]


def step_of(record: dict[str, Any], name: str) -> dict[str, Any]:
    (step,) = (step for step in record["steps"] if step["name"] == name)
    return dict(step)


def statuses(record: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["status"] for step in record["steps"]}


def new(folder: Path) -> Bench:
    (folder / "text.txt").write_text("a rose is a rose is a rose")
    return Bench(folder, folder / "home")
