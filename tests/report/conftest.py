"""Runs to report on: of a recipe of toy methods, done once, and of whatever a test writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.core.bench import Bench
from tuneforge.report.gather import RunReport, gather
from tuneforge_registry import Registry

TOYS = Path(__file__).with_name("toys.py")

RECIPE = """name: quizzed
steps:
  rows: {format: collect, with: {path: text.txt, left_out: {too short: 4, too long: 13}}}
  base: {train: learn, with: {answers: [wrong, four legs, no], steps: 3}}
  tuned:
    train: learn
    data: rows
    base: base
    with: {answers: [right, four wheels, no], steps: 40, asked: [Is it?, Is what?], worry: leaps}
    as: pupil
  quiz:
    evaluate: quiz
    models: [base, tuned]
    with: {prompts: [Is it?, What has it?, And now?], expected: [right, four legs, yes]}
"""


@dataclass
class Reporter(Bench):
    """A bench whose recipes know the methods of this folder's toys."""

    def write(self, recipe: str, name: str = "recipe.yaml") -> Path:
        path = self.folder / name
        path.write_text(f"plugins: [{TOYS}]\n{recipe}", encoding="utf-8")
        return path

    @property
    def registry(self) -> Registry:
        return Registry(self.home)

    def report(self, recipe: str, *settings: str, **options: Any) -> RunReport:
        """The report of a run of the recipe."""
        return gather(self.registry, self.run(recipe, *settings, **options)["id"])


def new(folder: Path) -> Reporter:
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text("a rose\nis a rose")
    return Reporter(folder, folder / "home")


@pytest.fixture
def bench(tmp_path: Path) -> Reporter:
    return new(tmp_path / "bench")


@dataclass(frozen=True)
class Finished:
    """A run of RECIPE, for tests that only look."""

    bench: Reporter
    run: RunReport

    @property
    def page(self) -> Path:
        return self.bench.home / "runs" / self.run.id / "report.html"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    made = new(tmp_path_factory.mktemp("report"))
    return Finished(made, made.report(RECIPE, "steps.base.with.steps=2"))
