import hashlib
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from tuneforge import Model, Step
from tuneforge.keys import shown_config, step_key
from tuneforge.sources import Digests
from tuneforge_models import shipped
from tuneforge_models.shipped import Builtin


def test_the_shipped_model_is_copied_as_it_is(step: Step) -> None:
    method = Builtin(model="tiny")
    method.run(step=step)
    assert list(Model.missing(step.out)) == []
    assert method.foresee({}).config == Model.facts(step.out).config
    for file in step.out.iterdir():
        assert file.read_bytes() == (shipped.SHIPPED / "tiny" / file.name).read_bytes()
        assert file.stat().st_nlink == 1, "a link would let the registry change what is installed"


def test_another_shipped_model_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(shipped.SHIPPED / "tiny", tmp_path / "shipped" / "tiny")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "shipped")
    method, digests = Builtin(), Digests(tmp_path / "digests.json")
    before = step_key(method, 0, {}, digests)
    assert step_key(method, 0, {}, digests) == before
    with (tmp_path / "shipped" / "tiny" / "config.json").open("a") as file:
        file.write("\n")
    assert step_key(method, 0, {}, digests) != before


def test_records_and_workers_are_told_its_name(tmp_path: Path) -> None:
    shown = shown_config(Builtin(model="tiny"), Digests(tmp_path / "digests.json"))
    assert shown["model"].startswith("tiny@")
    assert Builtin(**Builtin(model="tiny").model_dump(mode="json")) == Builtin(model="tiny")


def test_a_name_that_is_not_shipped_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValidationError, match="must be tiny"):
        Builtin(model="tini")
    assert Builtin.model_json_schema()["properties"]["model"]["enum"] == ["tiny"]


def test_a_page_about_the_model_is_no_part_of_it(tmp_path: Path, step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(shipped.SHIPPED / "tiny", tmp_path / "shipped" / "tiny")
    for name in ("README.md", "LICENSE"):
        (tmp_path / "shipped" / "tiny" / name).write_text("text")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "shipped")
    Builtin(model="tiny").run(step=step)
    names = {file.name for file in step.out.iterdir()}
    assert "LICENSE" in names
    assert "README.md" not in names


@pytest.mark.parametrize("folder", sorted(shipped.SHIPPED.iterdir()), ids=lambda folder: folder.name)
def test_a_shipped_model_is_as_it_was_released(folder: Path) -> None:
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sums} == sums
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10e6
