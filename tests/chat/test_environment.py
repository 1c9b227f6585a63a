"""A speaker whose needs this interpreter does not satisfy speaks from an environment of its own.

Installs a small package: needs a package index that uv can reach.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chat.conftest import House

pytestmark = [pytest.mark.slow, pytest.mark.network]

PLUGIN = '''"""Tells which version of its need it sees."""

from tuneforge import Artifact, Speaker, hookimpl


class Version(Artifact):
    kind = "version"


class Teller(Speaker):
    kinds = (Version,)
    needs = ("toolz==0.12.1",)
    engine = "tellers.engine"

    def open(self, artifact, threads, context):
        from .engine import Voice

        return Voice()


@hookimpl
def register_chat():
    return [Teller]
'''
ENGINE = """import toolz


class Voice:
    def reply(self, messages, manner):
        yield f"toolz {toolz.__version__}"
        return ""
"""


def test_it_is_made_once_and_lent_the_plugin(aviary: House, tmp_path: Path) -> None:
    installed = Path(shutil.copytree(aviary.settings["PYTHONPATH"], tmp_path / "installed"))
    package = installed / "tellers"
    package.mkdir()
    (package / "__init__.py").write_text(PLUGIN)
    (package / "engine.py").write_text(ENGINE)
    information = Path(shutil.copytree(installed / "parrots-1.0.dist-info", installed / "tellers-1.0.dist-info"))
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tellers\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[tuneforge]\ntellers = tellers\n")
    house = House(tmp_path, {"PYTHONPATH": str(installed)})
    house.put("old", "version", {"version.txt": "1"})
    house.put("polly", "bird", {"bird.txt": "polly"})
    first = house.ask("hello", "old", "polly")
    assert first.out == "## old\ntoolz 0.12.1\n\n## polly\npolly: hello\n", first.err
    assert "installing" in first.err
    again = house.ask("hello", "old")
    assert (again.code, again.out, again.err) == (0, "toolz 0.12.1\n", "")
