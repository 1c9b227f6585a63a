"""What is refused of files that come from elsewhere, and why."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import string
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneforge_registry import RegistryError, pickles, tensors, untrusted

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("../up", "not a plain relative path"),
        ("a/../../up", "not a plain relative path"),
        ("/etc/passwd", "not a plain relative path"),
        ("C:/up", "not every system"),
        ("a\\..\\up", "not a plain relative path"),
        ("a//b", "not a plain relative path"),
        ("a\0b", "not a plain relative path"),
        ("a\ud800b", "not a plain relative path"),
        ("", "no path"),
        ("nul", "not every system"),
        ("a/CON.txt", "not every system"),
        ("com1 .json", "not every system"),
        ("lpt².bin", "not every system"),
        ("dots.", "not every system"),
        ("blank ", "not every system"),
        ("folder./file", "not every system"),
        ("new\nline", "not every system"),
        ("stream:hidden", "not every system"),
        ("exe\u202etxt.bin", "signs that nobody sees"),
        ("x" * 256, "longer than 255 bytes"),
        ("/".join(["folder"] * 200), "longer than 1000 bytes"),
        (".GIT/hooks/pre-commit", "git"),
    ],
)
def test_a_path_that_some_system_cannot_hold_is_refused(path: str, problem: str) -> None:
    (refusal,) = untrusted.name_problems([path])
    assert problem in refusal.problem


def test_plain_paths_are_taken() -> None:
    paths = [
        "config.json",
        ".gitattributes",
        "model-00001-of-00002.safetensors",
        "Ünïcode/naïve file (1).txt",
        "con",
        "console",
    ]
    assert [refusal.path for refusal in untrusted.name_problems(paths)] == ["con"]


@pytest.mark.parametrize(
    "paths",
    [
        ("README.md", "readme.md"),
        ("A/x", "a/y"),
        ("a", "A/b"),
        ("A/b", "a"),
        ("é", "e\u0301"),
        ("same", "same"),
        ("ß", "SS"),
    ],
)
def test_paths_that_are_one_on_some_system_are_refused(paths: tuple[str, ...]) -> None:
    (refusal,) = untrusted.name_problems(paths)
    assert refusal.path == paths[1]
    assert repr(paths[0].partition("/")[0])[:-1] in refusal.problem


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(begin: int, end: int, dtype: str = "U8", shape: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "longer than the file"),
        (b"1234567", "longer than the file"),
        (struct.pack("<Q", 1 << 60) + b"{}", "longer than the file"),
        (safetensors(b"not JSON"), "not JSON"),
        (safetensors(b'{"a": NaN}'), "not JSON"),
        (safetensors(b'{"a": 1, "a": 2}'), "there twice"),
        (safetensors(b"[" * 100_000), "not JSON"),
        (safetensors(b'{"a":' * 100_000), "not JSON"),
        (safetensors(b"\xff\xfe"), "not JSON"),
        (safetensors([]), "not a JSON object"),
        (safetensors(b" {}"), "not a JSON object"),
        (safetensors({"__metadata__": {"format": 1}}), "__metadata__"),
        (safetensors({"a": tensor(0, 9)}, b"12345678"), "offsets outside"),
        (safetensors({"a": tensor(-4, 4, shape=[8])}, b"1234"), "offsets outside"),
        (safetensors({"a": tensor(4, 0, shape=[4])}, b"1234"), "offsets outside"),
        (safetensors({"a": {"dtype": "U8", "shape": [4]}}, b"1234"), "offsets outside"),
        (safetensors({"a": [1]}, b"1234"), "offsets outside"),
        (safetensors({"a": tensor(0, 4, shape=[True, 4])}, b"1234"), "offsets outside"),
        (safetensors({"a": tensor(0, 4, "F32", [2])}, b"1234"), "do not fill"),
        (safetensors({"a": tensor(0, 4, "F32", [1 << 62] * 50_000)}, b"1234"), "do not fill"),
        (safetensors({"a": tensor(0, 4), "b": tensor(2, 6)}, b"123456"), "overlap"),
        (safetensors({"a": tensor(0, 4), "b": tensor(5, 6)}, b"123456"), "no tensor"),
        (safetensors({"a": tensor(0, 4)}, b"123456"), "no tensor"),
    ],
)
def test_a_broken_safetensors_file_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    assert problem in str(tensors.problem(file))
    with pytest.raises(RegistryError, match=problem):
        untrusted.check_file(file, "deep/Model.SafeTensors")


def test_a_header_too_long_for_any_model_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", 90 << 20))
        stream.truncate(100 << 20)
    assert "longer than any model needs" in str(tensors.problem(file))


@pytest.mark.slow
def test_whole_safetensors_files_are_taken(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file

    given = {str(kind): torch.zeros(3, 4).to(kind) for kind in (torch.float32, torch.bfloat16, torch.int8, torch.bool)}
    save_file({**given, "none": torch.zeros(0, 7), "one": torch.tensor(1.0)}, tmp_path / "a", {"format": "pt"})
    (tmp_path / "b").write_bytes(safetensors({"new": tensor(0, 2, "F99", [7])}, b"12"))
    (tmp_path / "c").write_bytes(safetensors({}))
    assert [tensors.problem(tmp_path / name) for name in "abc"] == [None] * 3


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            told = tarfile.TarInfo(name)
            told.size = len(content)
            archive.addfile(told, io.BytesIO(content))
    return buffer.getvalue()


PICKLES = {
    **{f"evil, protocol {protocol}": pickle.dumps(Evil(), protocol) for protocol in range(6)},
    **{f"plain, protocol {protocol}": pickle.dumps({"a": [1, 2.5, "x"]}, protocol) for protocol in range(6)},
    "called before a fault": pickle.dumps(Evil(), 0)[:-1] + b"\0junk",
    "with junk behind": pickle.dumps(Evil(), 0) + b"junk",
    "a mark taken off first": b"(0" + pickle.dumps(Evil(), 0),
    "a number with a NUL": b"I1\0junk\n0" + pickle.dumps(Evil(), 0),
    "a call by INST": b"(S'true'\nios\nsystem\n.",
    "an import alone": b"\x80\x04cantigravity\nfly\n\0",
    "writes to what it names": b"cos\nenviron\nS'a'\nS'b'\ns\0",
    "many, then evil": pickle.dumps(list(range(1000)), 0)[:-1] + b"0" + pickle.dumps(Evil(), 0),
    "a row of them, as old torch writes": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2),
    "a pickle that looks like a tar": b"S'" + b"x" * 255 + b"ustar'\n0" + pickle.dumps(Evil(), 0),
    "a zip that looks like a tar": b"PK\x03\x04" + bytes(253) + b"ustar" + zipped({"a/data.pkl": b"x"}),
    "a zip of torch": zipped({"archive/data.pkl": b"x", "archive/data/0": b"1234"}),
    "a tar of old torch": tarred({"sys_info": b"x", "pickle": b"x"}),
    "a tar that tells the name beforehand": tarred({"x" * 120 + ".pkl": b"x"}),
    "a tar with a name of megabytes": tarred({"x" * 1_000_000: b"x"}),
    "a zip with a second directory": zipped({"a/data.pkl": b"x"}) + zipped({"a.txt": b"x"})[-60:],
    "a zip with an array of objects": zipped({"a.npy": b"\x93NUMPY\x01\0\x1c\0{'descr': '|O', 'shape': ()}"}),
    "an array of objects": b"\x93NUMPY\x01\0\x1c\0{'descr': '|O', 'shape': ()}",
    "an array with objects": b"\x93NUMPY\x01\0\x2a\0{'descr': [('a', '<i4'), ('b', 'f4,O')]}  ",
    "an array of who knows what": b"\x93NUMPY\x02\0\xff\xff\xff\xff{'descr': '|O'",
}


@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES)
def test_a_pickle_is_known_by_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(RegistryError, match="runs code when it is loaded") as error:
        untrusted.check_folder(tmp_path)
    assert "--allow-pickle weights.bin" in error.value.fix
    untrusted.check_folder(tmp_path, allow_pickle=["weights.bin"])
    with pytest.raises(RegistryError, match="runs code when it is loaded"):
        untrusted.check_folder(tmp_path, allow_pickle=["deep/weights.bin"])


@pytest.mark.parametrize("name", ["a.pkl", "a.PT", "deep/a.pth", "a.ckpt", "a.joblib"])
def test_a_pickle_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(b"who knows")
    with pytest.raises(RegistryError, match="a pickle by its name"):
        untrusted.check_file(tmp_path / "a", name)


@pytest.mark.slow
def test_what_torch_and_numpy_write_is_told_apart(tmp_path: Path) -> None:
    torch, numpy = pytest.importorskip("torch"), pytest.importorskip("numpy")
    state = OrderedDict(weight=torch.zeros(3))
    torch.save(state, tmp_path / "new.bin")
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    numpy.save(tmp_path / "objects.npy", numpy.array([{}], dtype=object))
    numpy.savez(tmp_path / "objects.npz", a=numpy.zeros(2), b=numpy.array([{}], dtype=object))
    structured = numpy.zeros(
        2, dtype=[("Offset", "<i4"), ("Other", "f8", (2, 3)), ("when", "M8[s]"), ("deep", [("O", "U3")])]
    )
    numpy.save(tmp_path / "plain.npy", structured)
    numpy.save(tmp_path / "plain-too.npy", numpy.zeros((2, 3)))
    numpy.savez_compressed(tmp_path / "plain.npz", a=structured, b=numpy.zeros(2))
    found = {path.name: pickles.found(path, path.name) is not None for path in tmp_path.iterdir()}
    bad = {"new.bin", "old.bin", "objects.npy", "objects.npz"}
    assert found == {name: name in bad for name in found}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b".",
        b"cat\nsat\non the mat\n",
        b"import os\nos.system('true')\n",
        b"(see below)\nNaN.",
        b"{}",
        b"GGUF\3\0\0\0" + bytes(100),
        b"PAR1\nc\nd\nNb" + b"PAR1" + bytes(range(256)) + b"PAR1",
        b"\x80\x02\0\0\0\0\0\0" + b"{" + b" " * 700,
        b"\x8e\0\0\0\0\0\0\0" + b"{" + b" " * 200,
        zipped({"a.txt": b"text"}),
        tarred({"a.txt": b"text"}),
    ],
)
def test_what_is_no_pickle_is_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    untrusted.check_folder(tmp_path)


def test_tables_of_words_are_no_pickles(tmp_path: Path) -> None:
    """Words one a line, of which a few make sense as opcodes: names of two functions, and a call."""
    chance = random.Random(0)
    file = tmp_path / "vocab.txt"
    refused = 0
    for _ in range(300):
        words = ("".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 8))) for _ in range(50))
        file.write_text("c" + "\n".join(words))
        refused += pickles.found(file, file.name) is not None
    assert refused <= 6


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: b"\x80\x04" + rest))
def test_whatever_the_bytes_the_looks_end_with_an_answer(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("any") / "file"
    for lead in (b"", b"\x93NUMPY\x01\0", b"PK\x03\x04", bytes(257) + b"ustar", struct.pack("<Q", len(content)) + b"{"):
        file.write_bytes(lead + content)
        assert isinstance(pickles.found(file, "file"), str | None)
        assert isinstance(tensors.problem(file), str | None)


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "within").symlink_to("config.json")
    (tmp_path / "away").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RegistryError) as error:
        untrusted.check_folder(tmp_path)
    assert error.value.problem.count("is a link") == 3
    assert "'pipe' is neither a file nor a folder" in error.value.problem
    assert "passwd" not in error.value.problem


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path, write: Write) -> None:
    folder = write({"a.pkl": b"x", "m.safetensors": b"x", **{f"nul{'.' * n}": b"" for n in range(9)}})
    with pytest.raises(RegistryError, match=r"'a\.pkl' is a pickle.*'m\.safetensors' has a header.*and 6 more"):
        untrusted.check_folder(folder)
