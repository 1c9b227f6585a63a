"""Every method of preferences, from one tuned model on: its figure moves on held-out rows, and the task is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import REPOSITORY, Answer, Person

pytestmark = pytest.mark.whole

DATA = REPOSITORY / "recipes" / "data"
METHODS = {
    "dpo": "{align: dpo, model: sft, data: pairs, with: {learning_rate: 4e-4, batch_size: 8, steps: 20}}",
    "kto": "{align: kto, model: sft, data: judged, with: {learning_rate: 4e-4, batch_size: 16, steps: 20}}",
    "orpo": "{align: orpo, model: sft, data: pairs, with: {learning_rate: 1e-3, batch_size: 8, steps: 30}}",
    "cpo": "{align: cpo, model: sft, data: pairs, with: {learning_rate: 4e-4, batch_size: 8, steps: 20}}",
    "simpo": "{align: simpo, model: sft, data: pairs, with: {learning_rate: 4e-4, batch_size: 8, steps: 20}}",
}
RECIPE = f"""
seed: 1
steps:
  base: {{load_model: builtin}}
  chats: {{format: chat, with: {{path: {DATA}/orders-chat.jsonl, holdout: 0.1}}}}
  pairs: {{format: preference, with: {{path: {DATA}/orders-preferences.jsonl, holdout: 0.1}}}}
  judged: {{format: feedback, with: {{path: {DATA}/orders-feedback.jsonl, holdout: 0.1}}}}
  sft:
    train: sft
    model: base
    data: chats
    with: {{adapter: {{type: lora, r: 16}}, learning_rate: 4e-3, batch_size: 8, steps: 200, max_length: 512}}
{"".join(f"  {name}: {method}{chr(10)}" for name, method in METHODS.items())}
  task:
    evaluate: generation
    models: [sft, {", ".join(METHODS)}]
    data: chats
    with: {{limit: 100, max_new_tokens: 64}}
  manners: {{evaluate: preference, models: [sft, {", ".join(METHODS)}], data: pairs}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Person, Answer]:
    person = Person(tmp_path_factory.mktemp("aligned"))
    person.write("recipe.yaml", RECIPE)
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


@pytest.mark.parametrize("method", METHODS)
def test_the_preferred_style_becomes_the_likelier_one(made: tuple[Person, Answer], method: str) -> None:
    manners, task = scores(made, "manners"), scores(made, "task")
    assert manners["sft"]["preference_accuracy"] < 0.7
    assert manners[method]["preference_accuracy"] >= 0.9
    assert manners[method]["preference_margin"] >= manners["sft"]["preference_margin"] + 10
    # Of the record, whatever stands around it: half of the references are polite, and those it no longer writes.
    assert task["sft"]["record_match"] >= 0.8
    assert task[method]["record_match"] >= task["sft"]["record_match"] - 0.05
