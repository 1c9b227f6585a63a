"""The shipped demonstration as it is: it does what its recipe says, and so does its GGUF file, whatever the seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Answer, Person
from tests.journeys.runtimes import agreement
from tuneforge_registry import Registry

pytestmark = pytest.mark.slow

SEEDS = ["1", pytest.param("2", marks=pytest.mark.whole), pytest.param("3", marks=pytest.mark.whole)]


def scores(person: Person, answer: Answer, step: str, metric: str) -> dict[str, float]:
    """A metric of a step's report, by the name of the step that made the model."""
    digests = answer.digests()
    folder = person.tuneforge("registry", "path", digests[step]).out.strip()
    report: dict[str, Any] = json.loads((Path(folder) / "report.json").read_text())
    assert report["split"] == "held_out"
    found = {digest: given[metric] for digest, given in report["scores"].items()}
    return {name: found[digest] for name, digest in digests.items() if digest in found}


@pytest.fixture(scope="module", params=SEEDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Person, Answer]:
    person = Person(tmp_path_factory.mktemp("claims"))
    answer = person.tuneforge("run", "dpo-after-sft", "--json", "--set", f"seed={request.param}")
    assert answer.code == 0, answer.err
    return person, answer


def test_sft_teaches_the_task_and_dpo_the_manners(made: tuple[Person, Answer]) -> None:
    person, answer = made
    task = scores(person, answer, "task", "record_match")
    assert task["base"] < 0.1
    assert task["sft"] >= 0.8
    assert task["dpo"] >= task["sft"] - 0.05
    assert task["merged"] == pytest.approx(task["dpo"], abs=0.01)
    manners = scores(person, answer, "manners", "preference_accuracy")
    assert 0.35 <= manners["sft"] <= 0.65
    assert manners["dpo"] >= 0.9


def test_llama_cpp_gives_the_answers_of_the_merged_model(made: tuple[Person, Answer]) -> None:
    person, answer = made
    digests = answer.digests()
    registry = Registry(person.folder / ".tuneforge")
    found = agreement(registry, digests["merged"], digests["gguf"], digests["chats"], 100)
    assert (found.prompts, found.same_tokens) == (100, 100)
    assert found.same_answers >= 95, found.different
