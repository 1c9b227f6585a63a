"""What the README shows works as it stands."""

from __future__ import annotations

import json
import re

import pytest

from tests.journeys.conftest import REPOSITORY, Person
from tuneforge.stages import STAGES

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


def test_the_recipe_is_the_shipped_one() -> None:
    assert _block("yaml") == (REPOSITORY / "recipes" / "dpo-after-sft.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_plugin_is_whole(person: Person) -> None:
    person.write("soup.py", _block("python"))
    person.write(
        "recipe.yaml",
        "plugins: [soup.py]\nsteps:\n  a: {load_model: builtin}\n  b: {load_model: builtin}\n"
        "  mixed: {merge: soup, first: a, second: b}\n",
    )
    answer = person.tuneforge("run", "recipe.yaml", "--json")
    assert answer.code == 0, answer.err
    assert answer.digests()["mixed"] == answer.digests()["a"]


def test_every_method_is_in_its_table(person: Person) -> None:
    offered = json.loads(person.tuneforge("plugins", "--json").out)
    for method in (page for page in offered if page["stage"] in STAGES):
        assert f"| {method['stage']} | `{method['name']}` | {method['summary']} |" in README


SHIPPED = sorted(path.stem for path in (REPOSITORY / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", SHIPPED)
def test_every_shipped_recipe_is_in_the_readme(recipe: str) -> None:
    assert f"`{recipe}`" in README or f"recipe={recipe}" in README


# Those that begin with a model of the Hub, or publish to it: tests/recipes plans them without it.
@pytest.mark.parametrize("recipe", [recipe for recipe in SHIPPED if not recipe.startswith(("llama", "publish-hub"))])
def test_every_shipped_recipe_can_be_planned(person: Person, recipe: str) -> None:
    answer = person.tuneforge("plan", recipe)
    assert answer.code == 0, answer.err
