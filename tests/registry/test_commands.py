"""The commands that carry models from one registry to another, and those that look after one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.bench import Bench, new
from tests.registry.forgery import forged, model, snapshot

RECIPE = """name: roses
steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: count, data: [words], as: roses}
  note: {align: remark, bag: bag}
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry in which the recipe was carried out."""
    made = new(tmp_path_factory.mktemp("done"))
    made.write(RECIPE)
    assert made.command("run", "recipe.yaml").code == 0
    return made.folder


@pytest.fixture
def bench(done: Path, tmp_path: Path) -> Bench:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    return new(tmp_path)


def test_a_run_is_exported_and_imported_with_its_lineage(bench: Bench, tmp_path: Path) -> None:
    def ask(*words: str, home: str) -> dict[str, object]:
        told = bench.command("--home", home, "registry", *words, "--json").json
        return {word: told[word] for word in ("digest", "kind", "base", "inputs", "files", "made_by") if word in told}

    ended = bench.command("registry", "export", "roses", "roses.tuneforge")
    assert (ended.code, ended.out) == (0, "")
    assert "exported 1 artifacts (roses), 1 runs" in ended.err
    tried = bench.command("--home", "other", "registry", "import", "roses.tuneforge", "--dry-run")
    assert "would import 1 new artifacts, 1 versions of names" in tried.out
    assert snapshot(tmp_path / "other") == {}
    taken = bench.command("--home", "other", "registry", "import", "roses.tuneforge")
    assert taken.code == 0
    assert "bag" in taken.out and "new" in taken.out and "name roses@v1" in taken.out
    for question in (("show", "roses"), ("lineage", "roses")):
        assert ask(*question, home="other") == ask(*question, home=str(bench.home))
    assert bench.command("--home", "other", "registry", "verify").out == "everything is as it was committed\n"
    again = bench.command("--home", "other", "registry", "import", "roses.tuneforge")
    assert "here already" in again.out and "imported 0 new artifacts, 0 versions" in again.out
    told = bench.command("--home", "other", "registry", "import", "roses.tuneforge", "--json").json
    assert (told["done"], len(told["artifacts"]), told["new"], told["versions"]) == (True, 1, [], [])
    renamed = bench.command("--home", "other", "registry", "import", "roses.tuneforge", "--as", "tulips")
    assert "name tulips@v1" in renamed.out


def test_an_export_leaves_no_half_file_and_overwrites_none(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    ended = bench.command("registry", "export", "roses", "there")
    assert (ended.code, (tmp_path / "there").read_text()) == (2, "precious")
    assert "is there already" in ended.err
    for blob in (bench.home / "blobs").rglob("*"):
        if blob.is_file():
            blob.chmod(0o644)
            blob.write_bytes(bytes(blob.stat().st_size))
    before = sorted(path.name for path in tmp_path.iterdir())
    ended = bench.command("registry", "export", "roses", "new")
    assert ended.code == 2
    assert "is damaged" in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_pipe_carries_a_model_from_one_registry_to_another(bench: Bench) -> None:
    here, there = (f"{sys.executable} -m tuneforge.cli --home {home} registry" for home in (bench.home, "other"))
    piped = f"{here} export roses --with-ancestors - | {there} import -"
    ended = subprocess.run(piped, shell=True, cwd=bench.folder, capture_output=True, text=True, check=True)
    assert "imported 2 new artifacts" in ended.stdout


def test_what_is_refused_is_told_in_two_lines(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "evil").write_bytes(forged(*model({"pytorch_model.bin": b"cos\nsystem\n(S'true'\ntR."})))
    ended = bench.command("registry", "import", "evil")
    assert ended.code == 2
    problem, fix = ended.err.splitlines()
    assert problem == "registry: 'pytorch_model.bin' is a pickle, which runs code when it is loaded"
    assert "--allow-pickle pytorch_model.bin" in fix
    assert bench.command("registry", "import", "evil", "--allow-pickle", "pytorch_model.bin").code == 0
    (tmp_path / "text").write_text("not an export")
    assert "no export of tuneforge" in bench.command("registry", "import", "text").err
    assert bench.command("registry", "import", "nowhere").code == 1


def test_one_artifact_is_verified_and_what_made_it_is_named(bench: Bench) -> None:
    sha256 = bench.command("registry", "show", "roses", "--json").json["files"]["bag.json"]["sha256"]
    (bench.home / "blobs" / sha256[:2] / sha256).unlink()
    words = bench.command("registry", "lineage", "roses", "--json").json["inputs"]["data"][0]["digest"]
    assert bench.command("registry", "verify", words).code == 0
    (damage,) = bench.command("registry", "verify", "roses", "--json").json
    assert (damage["what"], damage["names"]) == ("blob", ["roses@v1"])
    for ref in ([], ["roses"]):
        ended = bench.command("registry", "verify", *ref)
        assert ended.code == 1
        assert "is gone (touches roses@v1, " in ended.out
        assert "run the recipe that made it again (step bag of roses, in run " in ended.out


def test_gc_tells_what_goes_by_what_it_is_and_how_large(bench: Bench) -> None:
    told = bench.command("registry", "gc", "--days", "0").out.splitlines()
    assert sorted(line.split()[2] for line in told if line.startswith("artifact")) == ["note", "words"]
    assert any("  step words in " in line for line in told)
    assert "would remove" in told[-1]
    garbage = bench.command("registry", "gc", "--days", "0", "--json").json["garbage"]
    assert {thing["kind"] for thing in garbage if thing["what"] == "artifact"} == {"note", "words"}
    done = bench.command("registry", "gc", "--days", "0", "--yes").out.splitlines()
    assert done[:-1] == told[:-1]
    assert bench.command("registry", "verify").code == 0
