"""Recipes that learn from answers of the model's own: the record match rises on held-out orders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.journeys.conftest import REPOSITORY, Person
from tuneforge.plan import make_plan
from tuneforge.recipe import read_recipe
from tuneforge_registry import Registry

RECIPES = REPOSITORY / "recipes"


@pytest.mark.parametrize("recipe", ["grpo-json", "online-dpo"])
def test_it_is_planned_without_a_word(recipe: str, tmp_path: Path) -> None:
    plan = make_plan(read_recipe(RECIPES / f"{recipe}.yaml"), Registry(tmp_path))
    assert [str(finding) for finding in plan.findings] == []


def test_a_reward_is_pointed_at_in_its_recipe(tmp_path: Path) -> None:
    """By the line of its own entry, and of the option that is wrong in it."""
    written = (RECIPES / "grpo-json.yaml").read_text().replace("data/", f"{RECIPES}/data/")
    wrong = written.replace("- {type: exact, of: record}", "- {type: regex, pattern: '(a'}")
    path = tmp_path / "wrong.yaml"
    path.write_text(wrong)
    (finding,) = make_plan(read_recipe(path), Registry(tmp_path / "home")).findings
    line = next(number for number, text in enumerate(wrong.splitlines(), 1) if "type: regex" in text)
    assert finding.place.startswith(f"{path}:{line}:") or f"wrong.yaml:{line}:" in finding.place
    assert finding.problem.startswith("pattern does not compile")


@pytest.mark.whole
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_more_records_are_right_than_before(method: str, tmp_path: Path) -> None:
    person = Person(tmp_path)
    written = (RECIPES / "grpo-json.yaml").read_text().replace("data/", f"{RECIPES}/data/")
    person.write("recipe.yaml", written.replace("align: grpo", f"align: {method}"))
    beta = ("--set", "steps.grpo.with.beta=0") if method == "rloo" else ()
    answer = person.tuneforge("run", "recipe.yaml", "--json", *beta)
    assert answer.code == 0, answer.err
    digests = answer.digests()
    folder = person.tuneforge("registry", "path", digests["task"]).out.strip()
    report = json.loads((Path(folder) / "report.json").read_text())
    assert report["split"] == "held_out"
    before, after = (report["scores"][digests[name]] for name in ("sft", "grpo"))
    assert 0.6 <= before["record_match"] <= 0.9
    # Half of the references hold the record in a sentence, and the bare one is rewarded: exact_match says nothing.
    assert after["record_match"] >= before["record_match"] + 0.04
