"""The recipes of RLHF and distillation on the demonstration's data: what each is for moves, and the task stays done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Answer, Person
from tests.ppo.conftest import installed

pytestmark = [pytest.mark.whole, pytest.mark.network]

LOST = 0.05
"""How much of the records that were right may be wrong afterwards, as a share of all."""


def scores(person: Person, answer: Answer) -> dict[str, dict[str, Any]]:
    """What the report `scores` tells of each model, by the name of its step."""
    digests = answer.digests()
    folder = person.tuneforge("registry", "path", digests["scores"]).out.strip()
    found = json.loads((Path(folder) / "report.json").read_text())
    assert found["split"] == "held_out" and found["records"] == 100
    return {name: found["scores"][digest] for name, digest in digests.items() if digest in found["scores"]}


def test_ppo_raises_rewards_in_an_environment_that_is_made_once(tmp_path: Path) -> None:
    person, before = Person(tmp_path), installed()
    first = person.tuneforge("run", "rlhf-ppo", "--json")
    assert first.code == 0, first.err
    assert "packages into an environment of their own" in first.err, "it is told while it is made"
    assert installed() == before and "incompatible" not in before[1]
    found = scores(person, first)
    assert found["ppo"]["reward"] > found["sft"]["reward"] + 0.5
    assert found["ppo"]["record_match"] >= found["sft"]["record_match"] - LOST
    # Another PPO, with the environment that is there.
    second = person.tuneforge("run", "rlhf-ppo", "--json", "--set", "steps.ppo.with.steps=1")
    assert second.code == 0, second.err
    assert "packages into an environment" not in second.err
    assert second.statuses()["reward"] == "cached" and second.statuses()["ppo"] == "done"


def test_a_student_gets_back_what_its_teacher_knows(tmp_path: Path) -> None:
    person = Person(tmp_path)
    answer = person.tuneforge("run", "distill", "--json")
    assert answer.code == 0, answer.err
    found = scores(person, answer)
    assert found["student"]["record_match"] < found["teacher"]["record_match"] - 0.2
    assert found["distilled"]["record_match"] >= found["teacher"]["record_match"] - LOST
    assert found["distilled"]["perplexity"] < found["student"]["perplexity"]
