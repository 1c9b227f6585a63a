"""Methods whose needs this interpreter does not satisfy: environments of their own, made once, lent the same code.

These tests install small packages: they need a package index that uv can reach.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.core.bench import Bench, Ended, new, statuses, step_of

pytestmark = [pytest.mark.slow, pytest.mark.network]

ROOT = Path(__file__).parents[2]

PLUGIN = '''"""Methods that tell which versions of their needs they see."""

from tuneforge import Artifact, Evaluate, Field, Format, Step, StepError, hookimpl


class Version(Artifact):
    """A version."""

    kind = "version"


class Old(Format):
    """Needs an old toolz."""

    name = "old"
    needs = ("toolz==0.12.1",)
    output = Version

    note: str = Field("", description="A remark.")

    def run(self, step: Step) -> None:
        import toolz

        (step.out / "version.txt").write_text(f"toolz {toolz.__version__} {self.note}".strip())


class New(Format):
    """Needs a new toolz."""

    name = "new"
    needs = ("toolz==1.0.0",)
    output = Version

    def run(self, step: Step) -> None:
        import toolz

        (step.out / "version.txt").write_text(f"toolz {toolz.__version__}")


class Oldest(Format):
    """Needs the oldest pydantic with which a worker has to do."""

    name = "oldest"
    needs = ("pydantic==2.10.*",)
    output = Version

    size: int = Field(1, ge=1, description="A number that is checked.")

    def run(self, step: Step) -> None:
        import pydantic

        (step.out / "version.txt").write_text(".".join(pydantic.VERSION.split(".")[:2]))


class Both(Evaluate):
    """Reads versions, in an environment of its own."""

    name = "both"
    needs = ("toolz==1.0.0",)
    output = Version

    def run(self, versions: list[Version], step: Step) -> None:
        (step.out / "version.txt").write_text(", ".join((v.path / "version.txt").read_text() for v in versions))


class Torn(Format):
    """Needs what cannot be had."""

    name = "torn"
    needs = ("toolz==0.12.1", "toolz==1.0.0")
    output = Version

    def run(self, step: Step) -> None: ...


@hookimpl
def register_format() -> list[type[Format]]:
    return [New, Old, Oldest, Torn]


@hookimpl
def register_evaluate() -> list[type[Evaluate]]:
    return [Both]
'''
RECIPE = """steps:
  old: {format: old}
  new: {format: new}
  oldest: {format: oldest}
  both: {evaluate: both, versions: [old, new, oldest]}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench whose home keeps its environments from test to test."""
    made = new(tmp_path_factory.mktemp("shop"))
    (made.folder / "versions.py").write_text(PLUGIN)
    return made


@pytest.fixture(autouse=True)
def _there(shop: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.folder)


def plugged(*settings: str) -> list[str]:
    return ["plugins=[versions.py]", *settings]


def content(bench: Bench, digest: str) -> str:
    return (bench.home / "trees" / digest / "version.txt").read_text()


def environments(bench: Bench) -> list[str]:
    return sorted(marker.parent.name for marker in (bench.home / "envs").glob("*/.whole"))


def test_needs_that_exclude_each_other_meet_in_one_recipe(shop: Bench) -> None:
    plan = shop.plan(RECIPE, *plugged())
    assert [
        step.environment.own and not step.environment.ready for step in plan.steps.values() if step.environment
    ] == [True] * 4
    record = shop.run(RECIPE, *plugged())
    assert set(statuses(record).values()) == {"done"}
    assert content(shop, step_of(record, "both")["digest"]) == "toolz 0.12.1, toolz 1.0.0, 2.10"
    assert len(environments(shop)) == 3, "two steps share one"
    assert len([text for text in shop.said() if text.startswith("installing ")]) == 3
    packages = record["environments"][step_of(record, "old")["environment"]]
    assert packages["toolz"] == "0.12.1"
    assert {"pydantic", "pluggy", "packaging"} <= set(packages)
    assert "tuneforge" not in packages, "it is lent, not installed"
    lent = shop.home / "envs" / step_of(record, "old")["environment"] / "lent"
    assert [link.resolve() for link in lent.iterdir()] == [ROOT / "core/tuneforge"], "a local file travels by its path"


def test_an_environment_is_made_once(shop: Bench) -> None:
    shop.run(RECIPE, *plugged())
    assert set(statuses(shop.run(RECIPE, *plugged())).values()) == {"cached"}
    record = shop.run(RECIPE, *plugged("steps.old.with.note=again"))
    assert content(shop, step_of(record, "old")["digest"]) == "toolz 0.12.1 again"
    assert shop.said() == [], "nothing was resolved or installed"


def test_plan_tells_which_environment_a_step_runs_in(shop: Bench) -> None:
    (shop.folder / "r.yaml").write_text(f"plugins: [versions.py]\n{RECIPE}")
    ended = shop.command("plan", "r.yaml", TUNEFORGE_HOME=str(shop.folder / "other"))
    assert "in an environment of its own (to be made): toolz==0.12.1" in ended.out
    assert not (shop.folder / "other").exists()


def test_a_half_made_environment_is_made_anew(shop: Bench) -> None:
    recipe = "steps:\n  old: {format: old, with: {note: anew}}\n"
    planned = shop.plan(recipe, *plugged()).steps["old"].environment
    assert planned and planned.ready and planned.folder
    (planned.folder / ".whole").unlink()
    shutil.rmtree(planned.folder / "lib")
    record = shop.run(recipe, *plugged())
    assert content(shop, step_of(record, "old")["digest"]) == "toolz 0.12.1 anew"
    assert [text for text in shop.said() if "into an environment of their own" in text]


def test_needs_that_no_environment_satisfies_are_a_failed_step(shop: Bench) -> None:
    path = shop.folder / "torn.yaml"
    path.write_text("plugins: [versions.py]\nsteps: {torn: {format: torn}}\n")
    ended = shop.command("run", str(path), "--json")
    assert ended.code == 1
    error = step_of(ended.json, "torn")["error"]
    assert error.startswith("step torn: the environment could not be made: ")
    assert "toolz==0.12.1 and toolz==1.0.0" in error
    assert "Traceback" not in ended.err


PACKAGE = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tuneforge-NAME"
version = "1.2.3"

[project.entry-points.tuneforge]
NAME = "tuneforge_NAME"

[tool.hatch.build.targets.wheel]
packages = ["src/tuneforge_NAME"]
"""
METHOD = """from tuneforge import Format, Report, Step, hookimpl


class NAME(Format):
    'Needs an old toolz.'

    name = "NAME"
    needs = ("toolz==0.12.1",)
    engine = "tuneforge_NAME.engine"
    output = Report

    def run(self, step: Step) -> None:
        from .engine import version

        (step.out / "report.json").write_text(f'{{"toolz": "{version}", "scores": {{}}}}')


@hookimpl
def register_format() -> list[type[Format]]:
    return [NAME]
"""


def package(folder: Path, name: str) -> Path:
    """A plugin package whose method lies in a module of its own."""
    source = folder / name / "src" / f"tuneforge_{name}"
    source.mkdir(parents=True)
    (folder / name / "pyproject.toml").write_text(PACKAGE.replace("NAME", name))
    (source / "__init__.py").write_text("from .methods import *")
    (source / "methods.py").write_text(METHOD.replace("NAME", name))
    (source / "engine.py").write_text("import toolz\n\nversion = toolz.__version__\n")
    return folder / name


def test_installed_plugins_are_lent_to_an_environment(shop: Bench, tmp_path: Path) -> None:
    """tuneforge and one plugin from wheels, another plugin editable; and nothing of the extras."""
    python = tmp_path / "venv/bin/python"
    whole, loose = package(tmp_path, "whole"), package(tmp_path, "loose")
    for arguments in (
        ["venv", "--python", sys.executable, str(tmp_path / "venv")],
        ["pip", "install", "--python", str(python), "hatchling", "editables"],
        ["pip", "install", "--python", str(python), "--no-build-isolation", str(ROOT), str(whole), "-e", str(loose)],
    ):
        subprocess.run([find_uv_bin(), "--quiet", *arguments], check=True)

    def command(*arguments: str) -> Ended:
        done = subprocess.run(
            [str(python), "-P", "-m", "tuneforge.cli", "--home", str(shop.home), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    (tmp_path / "r.yaml").write_text("steps: {a: {format: whole}, b: {format: loose}}\n")
    ended = command("run", "r.yaml", "--json")
    assert ended.code == 0, ended.err
    assert statuses(ended.json) == {"a": "done", "b": "done"}
    for step in ended.json["steps"]:
        report = json.loads((shop.home / "trees" / step["digest"] / "report.json").read_text())
        assert report["toolz"] == "0.12.1"
    assert "loose 1.2.3" in command("plugins", "format.loose").out

    record = json.loads((shop.home / "runs" / f"{ended.json['run']}.json").read_text())
    lent = shop.home / "envs" / step_of(record, "a")["environment"] / "lent"
    assert (lent / "tuneforge_loose").resolve() == loose / "src/tuneforge_loose"
    for name in ("tuneforge", "tuneforge_whole"):
        assert (lent / name).resolve().is_relative_to(tmp_path / "venv")
