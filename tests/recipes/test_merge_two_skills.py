"""Two models tuned on two tasks, and a merge of them that does both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import REPOSITORY, Person
from tuneforge.plan import make_plan
from tuneforge.recipe import read_recipe
from tuneforge_registry import Registry

KEPT = 0.8
"""The least share of each model's own score that the merge must keep."""


def test_it_is_planned_without_a_word(tmp_path: Path) -> None:
    plan = make_plan(read_recipe(REPOSITORY / "recipes" / "merge-two-skills.yaml"), Registry(tmp_path))
    assert [str(finding) for finding in plan.findings] == []


@pytest.mark.whole
def test_the_merge_keeps_both_skills(tmp_path: Path) -> None:
    person = Person(tmp_path)
    answer = person.tuneforge("run", "merge-two-skills", "--json")
    assert answer.code == 0, answer.err
    digests = answer.digests()

    def scores(report: str) -> dict[str, Any]:
        folder = person.tuneforge("registry", "path", digests[report]).out.strip()
        found = json.loads((Path(folder) / "report.json").read_text())
        assert found["split"] == "held_out" and found["records"] >= 80
        return {name: found["scores"][digests[name]]["record_match"] for name in ("base", "clerk", "mover", "merged")}

    for report, able, other in (("on_orders", "clerk", "mover"), ("on_moves", "mover", "clerk")):
        found = scores(report)
        assert found[able] > 0.7 and found["base"] < 0.1 and found[other] < 0.1, found
        assert found["merged"] >= KEPT * found[able], found
