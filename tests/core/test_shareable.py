"""What of a recipe others may read: no secret is let in, and no place of this machine goes out."""

import json

import pytest

from tests.core.bench import Bench
from tests.core.test_plan import RECIPE, SHARE
from tuneforge.shareable import secrets_in, without_places

TOKEN = "hf_" + "a1B2" * 8


@pytest.mark.parametrize(
    ("secret", "what"),
    [
        (TOKEN, "Hugging Face"),
        ("ghp_" + "x" * 36, "GitHub"),
        ("sk-proj-" + "x1" * 20, "OpenAI"),
        ("AKIA" + "ABCDEFGH12345678", "AWS"),
        ("https://kim:lamps@example.org/data", "password in a URL"),
        ("the-value-of-a-variable", "$WANDB_API_KEY"),
    ],
)
def test_what_looks_like_a_secret_is_found_and_not_repeated(secret: str, what: str) -> None:
    environment = {"WANDB_API_KEY": "the-value-of-a-variable", "PATH": "/usr/bin:/bin:/usr/local/bin", "TOKEN": "x"}
    (found,) = secrets_in(f"name: x\nsteps:  # {secret}\n", "recipe.yaml", environment)
    assert found.place.startswith("recipe.yaml:2:") and what in found.problem
    assert secret not in str(found) and "HF_TOKEN" in found.fix


def test_ordinary_words_are_no_secrets() -> None:
    text = "repo: org/sk-model-hf_transformers, to: https://example.org:8080/a@b, sha: 0123456789abcdef0123456789abcdef"
    assert list(secrets_in(text, "recipe.yaml", {"API_KEY": "short"})) == []


def test_a_recipe_with_a_token_is_refused(bench: Bench) -> None:
    def refused(recipe: str, *settings: str) -> list[str]:
        problems = bench.read(recipe, *settings).problems
        assert TOKEN not in "".join(map(str, problems))
        return [problem.place.rpartition("/")[2] for problem in problems if "stands here" in problem.problem]

    assert refused(RECIPE + f"# {TOKEN}\n") == [f"recipe.yaml:{2 + RECIPE.count(chr(10))}:3"]
    assert refused(RECIPE, f"description={TOKEN}") == ["--set description"]
    assert refused(RECIPE) == []


def test_a_lineage_has_the_recipe_without_places_of_this_machine(bench: Bench) -> None:
    bench.run(RECIPE + SHARE, f"description={bench.folder}/notes")
    lineage = json.loads((bench.folder / "out.json").read_text())
    assert lineage["text"] == without_places((bench.folder / "recipe.yaml").read_text())
    assert lineage["settings"] == ["description=.../notes"]
    assert "plugins: [.../toys.py]" in lineage["text"] and RECIPE + SHARE in lineage["text"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{path: /home/kim/data/x.jsonl}", "{path: .../x.jsonl}"),
        ("to: ~/out/release", "to: .../release"),
        (r"C:\Users\kim\x.txt", ".../x.txt"),
        ("https://host/a/b ../a/b a/b/c org/name 1/2 m: a/b", "https://host/a/b ../a/b a/b/c org/name 1/2 m: a/b"),
    ],
)
def test_absolute_paths_are_shortened(text: str, shown: str) -> None:
    assert without_places(text) == shown
