"""Every method of preferences, from one tuned model on: its figure moves on held-out rows, and the task is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.alignment import PREFERENCES, preferences
from tests.journeys.conftest import REPOSITORY, Answer, Person

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Person, Answer]:
    person = Person(tmp_path_factory.mktemp("aligned"))
    person.write("recipe.yaml", preferences(REPOSITORY / "recipes" / "data"))
    answer = person.tuneforge("run", "recipe.yaml", "--json")
    assert answer.code == 0, answer.err
    return person, answer


def scores(made: tuple[Person, Answer], step: str) -> dict[str, dict[str, float]]:
    """The scores of a report, by the name of the step that made the model."""
    person, answer = made
    digests = answer.digests()
    folder = person.tuneforge("registry", "path", digests[step]).out.strip()
    report: dict[str, Any] = json.loads((Path(folder) / "report.json").read_text())
    return {name: report["scores"][digest] for name, digest in digests.items() if digest in report["scores"]}


@pytest.mark.parametrize("method", PREFERENCES)
def test_the_preferred_style_becomes_the_likelier_one(made: tuple[Person, Answer], method: str) -> None:
    manners, task = scores(made, "manners"), scores(made, "task")
    assert manners["sft"]["preference_accuracy"] < 0.7
    assert manners[method]["preference_accuracy"] >= 0.9
    assert manners[method]["preference_margin"] >= manners["sft"]["preference_margin"] + 10
    # Of the record, whatever stands around it: half of the references are polite, and those it no longer writes.
    assert task["sft"]["record_match"] >= 0.8
    assert task[method]["record_match"] >= task["sft"]["record_match"] - 0.05
