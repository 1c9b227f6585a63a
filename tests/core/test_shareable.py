"""What of a recipe others may read: no place of this machine goes out."""

import json

import pytest

from tests.core.bench import Bench
from tests.core.test_plan import RECIPE, SHARE
from tuneforge.shareable import without_places


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
