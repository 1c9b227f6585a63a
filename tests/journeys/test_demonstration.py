"""The shipped demonstration, shortened: from raw rows to a release, again, changed, and in another place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.journeys.conftest import REPOSITORY, Answer, Person

pytestmark = pytest.mark.slow

SHORT = {
    "steps.chats.with.limit": "300",
    "steps.pairs.with.limit": "120",
    "steps.sft.with.steps": "3",
    "steps.sft.with.max_length": "256",
    "steps.sft.with.batch_size": "4",
    "steps.dpo.with.steps": "2",
    "steps.dpo.with.batch_size": "4",
    "steps.task.with.limit": "4",
    "steps.task.with.max_new_tokens": "8",
}
STEPS = ["base", "chats", "pairs", "sft", "dpo", "merged", "gguf", "task", "manners", "release"]
ADDED = ["dpo.probe", "merged.probe", "merged.parity", "gguf.probe", "gguf.parity"]


def carry_out(person: Person, recipe: str = "dpo-after-sft", **changes: str) -> Answer:
    settings = SHORT | changes
    return person.tuneforge(
        "run", recipe, "--json", *(part for key, value in settings.items() for part in ("--set", f"{key}={value}"))
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Person, Answer]:
    person = Person(tmp_path_factory.mktemp("first"))
    return person, carry_out(person)


def test_runs_to_the_end(first: tuple[Person, Answer]) -> None:
    person, answer = first
    assert answer.code == 0, answer.err
    assert answer.statuses() == dict.fromkeys([*STEPS, *ADDED], "done")
    release = person.folder / "dist" / "orders"
    assert (release / "merged" / "model.safetensors").exists()
    assert (release / "gguf" / "model-q8_0.gguf").exists()
    assert "### Data" in (release / "README.md").read_text()
    assert str(person.folder) not in (release / "lineage.json").read_text()


def test_base_sft_and_dpo_are_evaluated_on_held_out_rows(first: tuple[Person, Answer]) -> None:
    person, answer = first
    digests = answer.digests()
    for step, models in (("task", ("base", "sft", "dpo", "merged")), ("manners", ("sft", "dpo"))):
        folder = person.tuneforge("registry", "path", digests[step]).out.strip()
        report = json.loads((Path(folder) / "report.json").read_text())
        assert report["split"] == "held_out"
        assert {digests[model] for model in models} == report["scores"].keys()


def test_again_is_cached_and_a_change_runs_what_depends_on_it(first: tuple[Person, Answer]) -> None:
    person, answer = first
    again = carry_out(person)
    assert set(again.statuses().values()) == {"cached"}
    assert again.digests() == answer.digests()
    assert [step["metrics"] for step in again.json["steps"]] == [step["metrics"] for step in answer.json["steps"]]
    unkeyed = carry_out(person, **{"steps.sft.with.log_every": "1"}).statuses()
    # The release's card tells the recipe as it was carried out.
    assert {name for name, status in unkeyed.items() if status != "cached"} == {"release"}
    beta = carry_out(person, **{"steps.dpo.with.beta": "0.2"}).statuses()
    after_dpo = {"dpo", "merged", "gguf", "task", "manners", "release", *ADDED}
    assert {name for name, status in beta.items() if status == "done"} == after_dpo


def test_one_changed_row_runs_what_depends_on_it(first: tuple[Person, Answer], tmp_path: Path) -> None:
    person, _ = first
    rows = (REPOSITORY / "recipes/data/orders-preferences.jsonl").read_text().splitlines()
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join([*rows[:5], rows[5].replace("order", "0rder"), *rows[6:]]) + "\n")
    answer = carry_out(person, **{"steps.pairs.with.path": str(pairs)})
    statuses = answer.statuses()
    assert {name for name in ("base", "chats", "sft") if statuses[name] == "cached"} == {"base", "chats", "sft"}
    assert {name for name in ("pairs", "dpo", "manners", "release") if statuses[name] == "cached"} == set()
    # Few steps may not have come by that row; then the adapter is the same, and what is made of it is there already.
    same = answer.digests()["dpo"] == first[1].digests()["dpo"]
    assert (statuses["merged"] == "cached") is same


def test_other_folder_other_home_same_digests(first: tuple[Person, Answer], tmp_path: Path) -> None:
    _, answer = first
    other = tmp_path / "somewhere" / "else"
    other.mkdir(parents=True)
    shutil.copytree(REPOSITORY / "recipes", other / "recipes")
    elsewhere = carry_out(Person(other), "recipes/dpo-after-sft.yaml")
    assert elsewhere.code == 0, elsewhere.err
    assert elsewhere.digests() == answer.digests()


def test_a_release_that_is_gone_is_published_again(first: tuple[Person, Answer]) -> None:
    person, answer = first
    carry_out(person)
    shutil.rmtree(person.folder / "dist")
    again = carry_out(person)
    assert [name for name, status in again.statuses().items() if status == "done"] == ["release"]
    assert again.digests()["release"] == answer.digests()["release"]


def test_the_registry_tells_how_it_was_made(first: tuple[Person, Answer]) -> None:
    person, _ = first
    lineage = person.tuneforge("registry", "lineage", "orders@v1").out
    for step in ("release", "merged", "dpo", "sft", "base", "chats", "pairs"):
        assert f"{step} (" in lineage
    assert person.tuneforge("registry", "verify").code == 0
