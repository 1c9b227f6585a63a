from __future__ import annotations

import hashlib
import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crashes.power import watched
from tuneforge import Facts, Model, StepError
from tuneforge_gguf import ToGguf, converter
from tuneforge_gguf.converter import fetch_converter, present_converter

ROOT = "llama_cpp_python-0.3.36"
INSIDE = f"{ROOT}/vendor/llama.cpp"


def _archive(folder: Path, *paths: str) -> Path:
    """A source archive with those files, each holding its own path."""
    path = folder / f"{ROOT}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in (f"{ROOT}/PKG-INFO", *paths):
            content = b"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 0.3.36\n"
            content = content if name.endswith("PKG-INFO") else name.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what lies in a folder of the test's can be found."""
    (tmp_path / "links").mkdir()
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "links"))


def _pin(monkeypatch: pytest.MonkeyPatch, archive: Path) -> None:
    monkeypatch.setattr(converter, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())


def test_takes_out_of_the_archive_what_the_converter_needs_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = (
        "convert_hf_to_gguf.py",
        "convert_lora_to_gguf.py",
        "conversion/base.py",
        "gguf-py/gguf/lazy.py",
        "LICENSE",
    )
    others = ("CMakeLists.txt", "src/llama.cpp", "gguf-py/gguf/scripts/dump.py", "conversion/deep/er.py", "x/LICENSE")
    inside = [f"{INSIDE}/{path}" for path in (*wanted, *others)]
    _pin(monkeypatch, _archive(tmp_path / "links", *inside, f"{ROOT}/LICENSE", f"{INSIDE}/conversion/../../evil.py"))
    folder = fetch_converter(tmp_path / "cache", print)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(wanted)
    assert (folder / "LICENSE").read_text() == f"{INSIDE}/LICENSE"
    assert not list(tmp_path.rglob("evil.py"))


def test_is_on_disk_before_it_counts_as_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pin(monkeypatch, _archive(tmp_path / "links", f"{INSIDE}/convert_hf_to_gguf.py", f"{INSIDE}/conversion/base.py"))
    with watched(monkeypatch, tmp_path) as disk:
        fetch_converter(tmp_path / "cache", print)
    assert disk.hollow == disk.unlisted == []


def test_fetches_once_for_all_who_ask_at_once_and_after_one_that_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pin(monkeypatch, _archive(tmp_path / "links", f"{INSIDE}/convert_hf_to_gguf.py"))
    cache = tmp_path / "cache"
    folder = converter._folder(cache).name
    (cache / f"{folder}.new" / "converter" / "conversion").mkdir(parents=True)
    logged: list[str] = []
    assert present_converter(cache) is None
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: fetch_converter(cache, logged.append), range(4)))
    assert found == {present_converter(cache)} == {cache / folder}
    assert len(logged) == 1
    assert {path.name for path in cache.iterdir()} <= {folder, f"{folder}.lock"}
    assert [path.name for path in (cache / folder).iterdir()] == ["convert_hf_to_gguf.py"]


@pytest.mark.parametrize(
    ("archive", "problem"), [(False, "no way to the source archive"), (True, "another source archive")]
)
def test_says_what_to_do_without_the_archive_and_leaves_nothing(tmp_path: Path, archive: bool, problem: str) -> None:
    if archive:
        _archive(tmp_path / "links", f"{INSIDE}/convert_hf_to_gguf.py")
    with pytest.raises(StepError, match=problem) as error:
        fetch_converter(tmp_path / "cache", print)
    assert f"put {ROOT}.tar.gz into a folder and name that folder in UV_FIND_LINKS" in str(error.value)
    assert present_converter(tmp_path / "cache") is None
    assert not list((tmp_path / "cache").glob("*.new"))


def test_refuses_a_file_that_is_not_the_one_the_index_spoke_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _archive(tmp_path / "links", f"{INSIDE}/convert_hf_to_gguf.py")
    _pin(monkeypatch, archive)
    monkeypatch.setattr(converter, "_address", lambda: _archive(tmp_path, f"{INSIDE}/LICENSE").as_uri())
    with pytest.raises(StepError, match="not the expected archive"):
        fetch_converter(tmp_path / "cache", print)
    assert present_converter(tmp_path / "cache") is None


def test_a_plan_says_when_the_converter_is_not_here_and_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("UV_FIND_LINKS")
    (finding,) = ToGguf().check({"model": [Facts(Model)]})
    assert finding.level == "warning" and "not here yet and the network is switched off" in finding.problem
    monkeypatch.setenv("UV_OFFLINE", "0")
    assert list(ToGguf().check({"model": [Facts(Model)]})) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert len(list(ToGguf().check({"model": [Facts(Model)]}))) == 1
    with monkeypatch.context() as by_hand:
        by_hand.setenv("UV_FIND_LINKS", str(tmp_path / "links"))
        assert list(ToGguf().check({"model": [Facts(Model)]})) == []
        _pin(monkeypatch, _archive(tmp_path / "links", f"{INSIDE}/convert_hf_to_gguf.py"))
        fetch_converter(tmp_path / "tuneforge", print)
    assert list(ToGguf().check({"model": [Facts(Model)]})) == []
