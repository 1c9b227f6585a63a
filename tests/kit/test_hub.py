"""A token in the options of anything that speaks to the Hub is refused, and not repeated."""

from pathlib import Path

import pytest

from tuneforge.recipe import read_recipe

TOKEN = "hf_" + "a1B2" * 8


@pytest.mark.parametrize("method", ["load_model: hub", "publish: hub, artifacts: base", "format: chat"])
@pytest.mark.parametrize("option", [f"token: {TOKEN}", "hf_token: secret", f"revision: {TOKEN}"])
def test_a_token_in_a_recipe_is_refused(tmp_path: Path, method: str, option: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"steps:\n  base: {{load_model: builtin}}\n  x: {{{method}, with: {{repo: a/b, {option}}}}}\n")
    (problem,) = read_recipe(recipe).problems
    assert problem.place.startswith(f"{recipe}:3:") and "HF_TOKEN" in problem.problem
    assert TOKEN not in str(problem) and "secret" not in str(problem)


def test_ordinary_options_are_none(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("steps: {base: {load_model: hub, with: {repo: a/hf_transformers-tokens, revision: dev}}}")
    assert read_recipe(recipe).problems == []
