"""Which steps recipes get, and what they are wired to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneforge.plan import Plan, make_plan
from tuneforge.recipe import read_recipe
from tuneforge_registry import Registry

DATA = Path(__file__).parents[2] / "recipes" / "data"
RECIPE = f"""name: forms
steps:
  base:   {{load_model: builtin}}
  chats:  {{format: chat, with: {{path: {DATA}/orders-chat.jsonl, holdout: 0.1}}}}
  pairs:  {{format: preference, with: {{path: {DATA}/orders-preferences.jsonl, holdout: 0.1}}}}
  sft:    {{train: sft, model: base, data: chats, with: {{adapter: {{type: lora}}}}}}
  merged: {{merge: adapter, model: sft}}
  small:  {{quantize: gguf, model: merged}}
"""


def plan(folder: Path, recipe: str, *settings: str, **options: Any) -> Plan:
    path = folder / "recipe.yaml"
    path.write_text(recipe)
    made = make_plan(read_recipe(path, settings), Registry(folder / "home"), **options)
    assert not made.errors, made.errors
    return made


def added(made: Plan) -> dict[str, dict[str, list[str]]]:
    return {step.name: dict(step.spec.inputs) for step in made.steps.values() if step.spec.added_by}


def test_every_form_is_compared_with_the_trained_one(tmp_path: Path) -> None:
    assert added(plan(tmp_path, RECIPE)) == {
        "sft.probe": {"model": ["sft"], "data": ["chats"]},
        "merged.probe": {"model": ["merged"], "data": ["chats"]},
        "merged.parity": {"reference": ["sft.probe"], "model": ["merged.probe"]},
        "small.probe": {"model": ["small"], "data": ["chats"]},
        "small.parity": {"reference": ["sft.probe"], "model": ["small.probe"]},
    }


def test_the_data_is_that_of_the_last_training(tmp_path: Path) -> None:
    recipe = RECIPE.replace("merge: adapter, model: sft", "merge: adapter, model: dpo")
    recipe = recipe.replace("  merged:", "  dpo:    {align: dpo, model: sft, data: pairs}\n  merged:")
    found = added(plan(tmp_path, recipe))
    assert found["dpo.probe"] == {"model": ["dpo"], "data": ["pairs"]}
    assert found["small.parity"]["reference"] == ["dpo.probe"]
    without = RECIPE.replace("merge: adapter, model: sft", "load_model: builtin")
    assert added(plan(tmp_path, without)) == {
        "merged.probe": {"model": ["merged"]},
        "small.probe": {"model": ["small"]},
        "small.parity": {"reference": ["merged.probe"], "model": ["small.probe"]},
    }


def test_reports_go_to_the_publications_of_the_form(tmp_path: Path) -> None:
    shipped = "  shipped: {publish: folder, artifacts: [small], with: {to: dist/a}}\n"
    both = "  both: {publish: folder, artifacts: [merged, small], reports: [mine], with: {to: dist/b}}\n"
    mine = "  mine: {evaluate: generation, models: [merged], data: chats}\n"
    made = plan(tmp_path, RECIPE + mine + shipped + both)
    assert made.steps["shipped"].spec.inputs["reports"] == ["merged.parity", "small.parity"], "made of merged"
    assert made.steps["both"].spec.inputs["reports"] == ["mine", "merged.parity", "small.parity"]


def test_a_comparison_of_the_recipes_own_is_left_to_it(tmp_path: Path) -> None:
    own = """  ours:   {evaluate: probe, model: sft, data: chats}
  theirs: {evaluate: probe, model: small, data: chats}
  mine:   {evaluate: parity, reference: ours, model: theirs, with: {require: {kl_mean: 0.5}}}
"""
    assert {*added(plan(tmp_path, RECIPE + own))} == {"sft.probe", "merged.probe", "merged.parity"}
    shipped = """  release: {publish: folder, artifacts: [small], with: {to: dist/a}}
  named:   {publish: folder, artifacts: [small], reports: [mine], with: {to: dist/b}}
"""
    made = plan(tmp_path, RECIPE + own + shipped)
    assert made.steps["release"].spec.inputs["reports"] == ["mine", "merged.parity"]
    assert made.steps["named"].spec.inputs["reports"] == ["mine", "merged.parity"]


def test_switching_off_and_options(tmp_path: Path) -> None:
    assert not added(plan(tmp_path, "extensions: {parity: false}\n" + RECIPE))
    options = "extensions: {parity: {limit: 3, positions: 5, max_new_tokens: 7, require: {bits8: {top1: 0.5}}}}\n"
    made = plan(tmp_path, options + RECIPE)
    told = made.steps["small.probe"].method.model_dump()
    assert (told["limit"], told["positions"], told["max_new_tokens"]) == (3, 5, 7)
    formats = made.steps["small.parity"].method.model_dump(exclude_none=True)["formats"]
    assert formats == {"bits8": {"top1": 0.5}}


def test_repeats_are_compared_each(tmp_path: Path) -> None:
    swept = RECIPE.replace("with: {adapter: {type: lora}}", "each: {steps: [1, 2]}, with: {adapter: {type: lora}}")
    found = added(plan(tmp_path, swept))
    assert found["small@steps=2.parity"] == {"reference": ["sft@steps=2.probe"], "model": ["small@steps=2.probe"]}
    assert len(found) == 10


def test_a_part_of_a_recipe(tmp_path: Path) -> None:
    statuses = {name: step.status for name, step in plan(tmp_path, RECIPE, until="merged.parity").steps.items()}
    assert statuses["merged.parity"] == statuses["sft.probe"] == "run"
    assert statuses["small"] == statuses["small.probe"] == "skipped"
    statuses = {name: step.status for name, step in plan(tmp_path, RECIPE, until="small").steps.items()}
    assert statuses["small"] == "run" and statuses["small.parity"] == statuses["merged.probe"] == "skipped"


def test_names_under_despite_are_those_of_reports(tmp_path: Path) -> None:
    shipped = "  shipped: {publish: folder, artifacts: [small], with: {to: dist/a, despite: [NAME]}}\n"
    plan(tmp_path, RECIPE + shipped.replace("NAME", "small.parity"))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE + shipped.replace("NAME", "smal.parity"))
    (finding,) = make_plan(read_recipe(path), Registry(tmp_path / "home")).errors
    assert finding.problem == "despite: smal.parity is no report of shipped"
    assert finding.fix == "Did you mean small.parity?"
