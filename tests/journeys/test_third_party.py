"""A third party's package: built, installed, seen and run, exactly as the tutorial says."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from uv import find_uv_bin

from tests.journeys.conftest import REPOSITORY, Person

pytestmark = pytest.mark.slow
EXAMPLE = REPOSITORY / "tests" / "examples" / "tuneforge-soup"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Person:
    folder = tmp_path_factory.mktemp("third-party")
    source = folder / "source"
    shutil.copytree(EXAMPLE, source)
    subprocess.run(
        [find_uv_bin(), "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", folder, source],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    # What this interpreter has is lent to the new one, so that only the plugin is to be installed.
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    lent = "".join(f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages())
    (packages / "lent.pth").write_text(lent)
    subprocess.run([find_uv_bin(), "pip", "install", "--no-deps", "--python", python, wheel], check=True)
    work = folder / "work"
    work.mkdir()
    return Person(work, python)


def test_it_is_listed_and_in_the_schema(installed: Person) -> None:
    methods = {
        f"{method['stage']}.{method['name']}": method for method in installed.tuneforge("plugins", "--json").json
    }
    assert methods["merge.soup"]["plugin"] == "soup 0.1.0"
    steps = installed.tuneforge("schema").json["$defs"]["step"]["anyOf"]
    assert "soup" in [step["properties"]["merge"]["const"] for step in steps if "merge" in step["properties"]]
    page = installed.tuneforge("plugins", "merge.soup")
    assert page.code == 0
    assert "Wortsman" in page.out


def test_its_recipe_runs(installed: Person) -> None:
    installed.write("recipe.yaml", (EXAMPLE / "recipe.yaml").read_text())
    answer = installed.tuneforge("run", "recipe.yaml", "--json")
    assert answer.code == 0, answer.err
    # The same model twice: its average is the model itself.
    digests = answer.digests()
    assert digests["soup"] == digests["first"] == digests["second"]


def test_its_check_finds_mistakes(installed: Person) -> None:
    recipe = yaml.safe_load((EXAMPLE / "recipe.yaml").read_text())
    recipe["steps"]["soup"]["with"] = {"weights": [1, 2, 3]}
    installed.write("wrong.yaml", yaml.safe_dump(recipe))
    answer = installed.tuneforge("plan", "wrong.yaml")
    assert answer.code == 2
    assert "3 weights for 2 models" in answer.err


def test_the_tutorial_shows_the_package_as_it_is() -> None:
    tutorial = (REPOSITORY / "docs" / "plugins.md").read_text()
    source = (EXAMPLE / "src/tuneforge_soup/__init__.py").read_text()
    for line in ('    needs = ("torch>=2.6", "safetensors>=0.4")', '    engine = "tuneforge_soup.average"'):
        assert line in tutorial
        assert line in source
    assert "{merge: soup, models: [first, second], with: {weights: [1, 3]}}" in (EXAMPLE / "recipe.yaml").read_text()
    assert "{merge: soup, models: [first, second], with: {weights: [1, 3]}}" in tutorial


def test_a_plugin_that_cannot_be_imported_is_named(installed: Person, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nowhere_to_be_found\n")
    installed.write("broken.yaml", f"plugins: [{broken}]\nsteps: {{base: {{load_model: builtin}}}}\n")
    answer = installed.tuneforge("plan", "broken.yaml")
    assert answer.code == 2
    assert "broken.py" in answer.err
    assert "nowhere_to_be_found" in answer.err
