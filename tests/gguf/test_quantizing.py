"""Fewer bits, by llama.cpp's own rules: every type, what it falls back to, and what is found when a file is wrong."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.gguf.small_models import LINES, byte_level, write_model
from tuneforge import ChatData, Facts, Gguf, Model, Step, StepError, TextData
from tuneforge.artifacts import Tensor, read_gguf
from tuneforge.kit.llamacpp import loaded
from tuneforge.kit.rows import write_rows
from tuneforge.plan import make_plan
from tuneforge.recipe import read_recipe
from tuneforge.runner import Run
from tuneforge_gguf import ToGguf, against
from tuneforge_gguf import converter as converter_module
from tuneforge_gguf import importance as importance_module
from tuneforge_gguf.against import verify_against
from tuneforge_gguf.export import export
from tuneforge_gguf.importance import _Node as Node
from tuneforge_gguf.importance import calibration_text, chunks_of, importance
from tuneforge_gguf.installed import programs
from tuneforge_gguf.togguf import LLAMA_CPP_PYTHON
from tuneforge_gguf.types import TYPES
from tuneforge_gguf.verify import verify
from tuneforge_registry import Registry

slow, whole_suite = pytest.mark.slow, pytest.mark.whole


class Made:
    """A step that was carried out."""

    def __init__(self, method: ToGguf, model: Model | Gguf, folder: Path, data: Any = None) -> None:
        self.events: list[dict[str, Any]] = []
        for name in ("out", "scratch"):
            (folder / name).mkdir(parents=True)
        step = Step("gguf", folder / "out", folder / "scratch", seed=1, threads=1, send=self.events.append)
        method.run(model, data, step=step)
        assert not list((folder / "scratch").iterdir())
        (self.file,) = (folder / "out").iterdir()
        self.figures = step.figures

    def said(self, event: str) -> list[str]:
        return [str(each.get("text") or each.get("problem")) for each in self.events if each["event"] == event]


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, converter: Path) -> None:
    """A step finds the converter where the tests keep it."""
    monkeypatch.setattr("tuneforge_gguf.making.fetch_converter", lambda cache, log: converter)


SMALLER = [
    pytest.param(type_, marks=slow if type_ in ("q4_k_m", "iq4_xs") else [slow, whole_suite])
    for type_ in TYPES
    if type_ != "f32"
]


@pytest.mark.parametrize("type_", SMALLER)
def test_makes_every_type_of_a_gguf_file(tmp_path: Path, quantizer: None, whole: Gguf, type_: str) -> None:
    made = Made(ToGguf(type=type_), whole, tmp_path)
    assert made.file.name == f"model-{type_}.gguf"
    assert read_gguf(made.file, "general.file_type") == {"general.file_type": TYPES[type_].number}
    assert made.figures["tensor_types"][TYPES[type_].weights] == made.figures["tensors_as_asked"] > 0
    assert made.figures["tensors_fallen_back"] == {}
    assert made.figures["quantized_by"] == LLAMA_CPP_PYTHON.replace("==", " ")
    assert made.figures["bytes"] == made.file.stat().st_size < (whole.path / "model-f32.gguf").stat().st_size
    (*_, last) = (event for event in made.events if event["event"] == "progress")
    assert last["done"] == last["total"] == made.figures["tensors"]


@slow
def test_makes_of_a_model_what_it_makes_of_its_exact_gguf_file(
    tmp_path: Path, quantizer: None, cached: None, wide: Path, whole: Gguf
) -> None:
    from_model = Made(ToGguf(type="q4_k_m"), Model(wide, "2" * 64), tmp_path / "model")
    from_file = Made(ToGguf(type="q4_k_m"), whole, tmp_path / "file")
    assert from_model.file.read_bytes() == from_file.file.read_bytes()
    assert from_model.figures["texts"] > 3000 and from_model.figures["texts_differing"] == 0
    assert from_model.figures["tensors_compared"] == from_model.figures["tensors"]


@slow
def test_tells_what_rows_that_are_no_multiple_of_256_become(tmp_path: Path, quantizer: None, converter: Path) -> None:
    model = write_model(tmp_path / "model", byte_level(), hidden=192, intermediate=512)
    (tmp_path / "f16").mkdir()
    export(model, tmp_path / "f16", "f16", converter, log=lambda _: None)
    made = Made(ToGguf(type="q4_k_m"), Gguf(tmp_path / "f16", "3" * 64), tmp_path)
    # Only what comes down from 512 has rows of that.
    assert sum(made.figures["tensors_fallen_back"].values()) == 14 == made.figures["tensors"] - 5 - 2
    (warned,) = made.said("warning")
    assert "14 of the model's weights have rows that are no multiple of 256" in warned and "q5_0 (" in warned


def _data(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    write_rows(folder, "train", rows)
    (folder / "data.json").write_text("{}")
    return folder


@pytest.fixture
def chats(tmp_path: Path) -> ChatData:
    rows = [
        {"messages": [{"role": "user", "content": line * 2}, {"role": "assistant", "content": line}], "tools": None}
        for line in LINES * 5
    ]
    return ChatData(_data(tmp_path / "chats", rows), "4" * 64)


@slow
def test_importance_is_the_mean_of_the_squares_that_a_weight_meets(
    quantizer: None, wide: Path, whole: Gguf, chats: ChatData
) -> None:
    file = whole.path / "model-f32.gguf"
    with loaded(file, threads=1, context=256) as llama:
        text, again, other = (calibration_text(llama, chats, 300, seed, print) for seed in (1, 1, 2))
        assert text == again != other
        chunks = chunks_of(llama, text, 3, 64)
    tokenizer = AutoTokenizer.from_pretrained(wide)
    rendered = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert text.startswith("<|im_start|>user") and text.endswith("<|im_end|>\n")
    assert chunks == [rendered[:64], rendered[64:128], rendered[128:192]]
    found = importance(file, chunks)
    network = AutoModelForCausalLM.from_pretrained(wide)
    squares: dict[str, torch.Tensor] = {}

    def meet(name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            squares[name] = squares.get(name, torch.zeros(1)) + inputs[0][0].square().sum(0)

        return hook

    pairs = {"attn_q": "self_attn.q_proj", "attn_output": "self_attn.o_proj", "ffn_down": "mlp.down_proj"}
    for theirs, ours in pairs.items():
        network.get_submodule(f"model.layers.1.{ours}").register_forward_pre_hook(meet(theirs))
    with torch.inference_mode():
        for chunk in chunks:
            network(torch.tensor([chunk]))
    assert len(found) == 2 * 7
    for theirs in pairs:
        want = (squares[theirs] / (3 * 64)).numpy()
        # Keys and values are kept in half precision.
        assert np.abs(found[f"blk.1.{theirs}.weight"] - want).max() < 5e-3 * want.max()


@slow
def test_quantizes_by_importance(tmp_path: Path, quantizer: None, whole: Gguf, chats: ChatData) -> None:
    by = ToGguf(type="q2_k", calibration_chunks=2, calibration_length=48)
    made = [Made(by, whole, tmp_path / name, chats) for name in ("a", "b")]
    assert made[0].file.read_bytes() == made[1].file.read_bytes()
    assert made[0].figures["calibration_chunks"] == 2
    noted = read_gguf(made[0].file, "quantize.imatrix.chunks_count", "quantize.imatrix.entries_count")
    assert noted == {"quantize.imatrix.chunks_count": 2, "quantize.imatrix.entries_count": 14}
    plain = Made(ToGguf(type="q2_k"), whole, tmp_path / "plain")
    assert made[0].file.read_bytes()[-100_000:] != plain.file.read_bytes()[-100_000:]


ALTERNATING = (
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"
)


@slow
def test_calibrates_on_what_the_template_takes(tmp_path: Path, converter: Path) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = ALTERNATING + str(tokenizer.chat_template)
    file = export(write_model(tmp_path / "model", tokenizer), tmp_path, "f16", converter, log=lambda _: None)
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    turn = {"role": "user", "content": "Where is it?"}
    answer = {"role": "assistant", "content": "There."}
    rows: list[dict[str, Any]] = [{"messages": [turn, answer], "tools": None}] * 3
    rows += [{"messages": [turn, turn, answer], "tools": None}, {"messages": [turn, answer], "tools": tools}]
    data = ChatData(_data(tmp_path / "rows", rows), "4" * 64)
    logged: list[str] = []
    with loaded(file, threads=1, context=256) as llama:
        text = calibration_text(llama, data, 10_000, 1, logged.append)
    assert logged == ["left out of 5 rows: 1 that the template refuses"]
    assert text.count("There.") == 4 and text.count('"look_up"') == 1


class Tokens:
    """A llama.cpp that takes characters for tokens, and 0 for BOS."""

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return [0] * special + [ord(letter) for letter in text]


@pytest.mark.parametrize(
    ("text", "chunks", "want"),
    [
        ("abcdefg", 4, ["\0abc", "\0efg"]),
        ("abcdefghijk", 2, ["\0abc", "\0efg"]),
        ("abcdefghijk", 4, ["\0abc", "\0efg", "\0ijk"]),
        ("abcdefg", 1, ["\0abc"]),
        ("abcdef", 1, None),
    ],
)
def test_cuts_a_text_as_llama_imatrix_does(text: str, chunks: int, want: list[str] | None) -> None:
    llama: Any = Tokens()
    if want is None:
        with pytest.raises(StepError, match=r"has 7 tokens, and llama.cpp wants two pieces of 4"):
            chunks_of(llama, text, chunks, 4)
    else:
        assert ["".join(map(chr, chunk)) for chunk in chunks_of(llama, text, chunks, 4)] == want


def test_a_weight_with_a_matrix_for_each_head_is_measured_by_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance_module, "_op", lambda node: "MUL_MAT")
    given = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)  # heads, tokens, columns
    inputs = Node(ne=(4, 3, 2, 1), nb=(4, 16, 48, 96), data=given.ctypes.data)
    weight = Node(ne=(4, 5, 2, 1), name=b"blk.0.attn_k_b.weight")
    sums: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    importance_module._add(Node(src=(ctypes.pointer(weight), ctypes.pointer(inputs))), sums, counts)
    assert np.array_equal(sums["blk.0.attn_k_b.weight"], np.square(given).sum(axis=1))
    assert counts["blk.0.attn_k_b.weight"].tolist() == [3, 3]


@slow
def test_says_so_where_a_context_does_not_fit(quantizer: None, whole: Gguf, monkeypatch: pytest.MonkeyPatch) -> None:
    import llama_cpp

    freed: list[object] = []
    monkeypatch.setattr(llama_cpp, "llama_init_from_model", lambda *_: None)
    monkeypatch.setattr(llama_cpp, "llama_model_free", freed.append)
    with pytest.raises(StepError, match="cannot run the GGUF file"):
        importance(whole.path / "model-f32.gguf", [[1, 2]])
    assert len(freed) == 1


@slow
def test_asks_for_enough_calibration_data(tmp_path: Path, quantizer: None, whole: Gguf) -> None:
    few = TextData(_data(tmp_path / "texts", [{"prompt": None, "completion": "A few words."}]), "5" * 64)
    with pytest.raises(StepError, match="wants two pieces of 512"):
        Made(ToGguf(type="q4_k_m"), whole, tmp_path, few)


# Each spoils a file that llama.cpp has quantized.
def _another_row(file: Path) -> None:
    reader = gguf.GGUFReader(file, "r+")
    tensor = next(each for each in reader.tensors if each.name == "blk.1.ffn_down.weight")
    tensor.data[3] = tensor.data[4]


def _another_base(file: Path) -> None:
    reader = gguf.GGUFReader(file, "r+")
    (field,) = (reader.fields[name] for name in reader.fields if name.endswith("rope.freq_base"))
    field.parts[field.data[0]][0] = 500.0


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "a row": (_another_row, "blk.1.ffn_down.weight of the GGUF file is off by"),
    "the rotary base": (_another_base, "llama.rope.freq_base of the metadata is not that of the file it was made of"),
    "half of it": (lambda file: os.truncate(file, file.stat().st_size // 2), "cannot be read"),
}


@pytest.fixture(scope="module")
def smaller(tmp_path_factory: pytest.TempPathFactory, quantizer: None, whole: Gguf) -> Path:
    return Made(ToGguf(type="q4_0"), whole, tmp_path_factory.mktemp("smaller")).file


@slow
@pytest.mark.parametrize("what", SPOILT)
def test_finds_what_is_not_its_source_and_leaves_no_file(tmp_path: Path, smaller: Path, whole: Gguf, what: str) -> None:
    spoil, problem = SPOILT[what]
    file = Path(shutil.copy(smaller, tmp_path))
    spoil(file)
    with pytest.raises(StepError, match=problem):
        verify_against(file, whole.path / "model-f32.gguf")
    assert not file.exists()


@slow
def test_compares_logits_so_wide_that_probabilities_underflow(
    tmp_path: Path, converter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model", byte_level())
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] *= 30
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    source = export(model, tmp_path, "f32", converter, log=lambda _: None)
    assert verify(source, model)["logits_error"] < 0.05
    copy = Path(shutil.copy(source, tmp_path / "copy.gguf"))
    assert verify_against(copy, source)["logits_error"] < 1e-3
    _another_base(copy)
    monkeypatch.setattr(against, "_metadata", lambda *_: None)
    with pytest.raises(StepError, match="logits differ from those of the file it was made of"):
        verify_against(copy, source)


@slow
def test_says_why_llama_cpp_refuses_and_leaves_no_file(tmp_path: Path, quantizer: None, whole: Gguf) -> None:
    folder = shutil.copytree(whole.path, tmp_path / "whole")
    with (folder / "model-f32.gguf").open("r+b") as file:
        content = file.read(1 << 16)
        file.seek(content.index(b"llama.block_count"))
        file.write(b"llama.block_cound")
    with pytest.raises(StepError, match=r"does not quantize the model to q4_0: .*block_count"):
        Made(ToGguf(type="q4_0"), Gguf(folder, "6" * 64), tmp_path)
    assert not list((tmp_path / "out").iterdir())


@slow
def test_takes_no_gguf_file_that_has_lost_something(tmp_path: Path, smaller: Path) -> None:
    with pytest.raises(StepError, match="the GGUF file is of q4_0 already"):
        Made(ToGguf(type="q4_k_m"), Gguf(smaller.parent, "7" * 64), tmp_path)


PROGRAM = """#!{python}
import os, sys
from pathlib import Path

sys.path[:] = {path!r}
name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
Path({seen!r}, name).write_text(" ".join([Path.cwd().name, *arguments]))
if name == "llama-imatrix":
    Path(arguments[arguments.index("-o") + 1]).write_bytes(Path(arguments[arguments.index("-f") + 1]).read_bytes())
else:
    from tuneforge_gguf.quantizing import quantize

    print("version: 0.5.0 (build 4321, commit 0c1e570)")
    source, target, type, threads = arguments[-4:]
    quantize(Path(source), Path(target), type.lower(), progress=lambda at, of: print(f"[{{at:4}}/{{of:4}}] x"))
    sys.exit(int({fails}))
"""


def _install(folder: Path, fails: bool = False) -> Path:
    """A llama.cpp as a person may have it: its programs, which here ask the library."""
    (folder / "bin").mkdir(parents=True)
    for name in ("llama-quantize", "llama-imatrix"):
        program = folder / "bin" / name
        program.write_text(PROGRAM.format(python=sys.executable, path=sys.path, seen=str(folder), fails=fails))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder / "bin"


@slow
def test_takes_the_programs_of_a_llama_cpp_that_is_there(
    tmp_path: Path, quantizer: None, whole: Gguf, chats: ChatData, smaller: Path
) -> None:
    bin_ = _install(tmp_path / "mine")
    made = Made(ToGguf(type="q4_0", llama_cpp=bin_), whole, tmp_path / "plain")
    assert made.file.read_bytes() == smaller.read_bytes()
    assert made.figures["quantized_by"] == "llama-quantize 0.5.0 (build 4321, commit 0c1e570)"
    assert [event["done"] for event in made.events if event["event"] == "progress"][-1] == made.figures["tensors"]
    by = ToGguf(type="q4_0", llama_cpp=bin_, calibration_chunks=2, calibration_length=48)
    Made(by, whole, tmp_path / "by importance", chats)
    measured = (tmp_path / "mine" / "llama-imatrix").read_text()
    assert "-f calibration.txt -o imatrix.gguf -c 48 --chunks 2" in measured and "--parse-special" in measured
    # By its name alone, which llama-quantize writes into the file.
    assert "--imatrix imatrix.gguf " in (tmp_path / "mine" / "llama-quantize").read_text()


@slow
def test_tells_the_last_words_of_a_program_that_fails(tmp_path: Path, quantizer: None, whole: Gguf) -> None:
    with pytest.raises(StepError, match="llama-quantize ended with 1"):
        Made(ToGguf(type="q4_0", llama_cpp=_install(tmp_path / "mine", fails=True)), whole, tmp_path)
    assert not list((tmp_path / "out").iterdir())


@slow
def test_a_step_quantizes_in_an_environment_that_has_no_torch(
    tmp_path: Path, quantizer: None, envs: Path, whole: Gguf
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "envs").symlink_to(envs)
    registry = Registry(tmp_path / "home")
    registry.tag("whole", registry.put(shutil.copytree(whole.path, tmp_path / "copy"), "gguf", None))
    recipe = tmp_path / "small.yaml"
    recipe.write_text("steps:\n  small: {quantize: gguf, model: registry:whole, with: {type: q4_k_m}}\n")
    plan = make_plan(read_recipe(recipe, ()), registry)
    assert not plan.errors
    environment = plan.steps["small"].environment
    assert environment is not None and environment.ready and environment.own
    assert not any(need.startswith(("torch", "transformers")) for need in environment.needs)
    record = Run(plan, lambda event: None, threads=1).carry_out()
    assert record["status"] == "done", record["steps"]
    assert record["steps"][0]["metrics"]["tensor_types"]["Q4_K"] > 0


def _told(method: ToGguf, model: Facts, **facts: list[Facts]) -> list[str]:
    return [finding.problem for finding in method.check({"model": [model], **facts})]


FILE = Facts(Gguf, {"general.architecture": "llama", "general.file_type": 1}, template="{{ messages }}")


@pytest.mark.parametrize(
    ("type_", "model", "data", "told"),
    [
        ("q4_k_m", FILE, None, []),
        ("q4_k_m", Facts(Gguf), None, []),
        ("q4_k_m", Facts(Gguf, {"general.file_type": 15}), None, ["the GGUF file is of q4_k_m already: what"]),
        ("q4_k_m", Facts(Gguf, {"general.file_type": 19}), None, ["the GGUF file is of type 19 already: what"]),
        ("f16", FILE, None, ["the GGUF file is of f16 already"]),
        ("bf16", FILE, ChatData, ["bf16 rounds every weight alike"]),
        ("q8_0", FILE, ChatData, ["llama.cpp makes q8_0 without an importance matrix"]),
        ("q2_k", FILE, None, ["q2_k without an importance matrix loses much"]),
        ("iq4_xs", FILE, None, ["iq4_xs without an importance matrix loses much"]),
        ("iq4_xs", FILE, ChatData, []),
        ("q4_k_m", Facts(Gguf, FILE.config), ChatData, ["the model has no chat template to render"]),
        ("q4_k_m", Facts(Gguf, FILE.config), TextData, []),
        (
            "q4_k_m",
            Facts(Model, {}, {"a": Tensor("F32", (8, 192)), "b": Tensor("F32", (8, 256)), "c": Tensor("F32", (192,))}),
            None,
            ["1 of the model's 2 matrices have rows that are no multiple of 256"],
        ),
        ("q4_0", Facts(Model, {}, {"a": Tensor("F32", (8, 192))}), None, []),
    ],
)
def test_a_plan_says_what_would_go_wrong(
    monkeypatch: pytest.MonkeyPatch, type_: str, model: Facts, data: Any, told: list[str]
) -> None:
    monkeypatch.delenv("UV_OFFLINE", raising=False)
    found = _told(ToGguf(type=type_), model, **({"data": [Facts(data)]} if data else {}))
    assert len(found) == len(told)
    assert all(problem.startswith(start) for problem, start in zip(found, told, strict=True)), found


def test_a_plan_foresees_the_type_so_that_the_next_step_is_checked() -> None:
    first = ToGguf(type="f16").foresee({"model": [Facts(Model, {}, template="x")]})
    assert first.kind is Gguf and first.template == "x"
    second = ToGguf(type="q4_k_m").foresee({"model": [FILE]})
    assert second.config == {"general.architecture": "llama", "general.file_type": 15}
    assert _told(ToGguf(type="q4_0"), first) == []
    assert len(_told(ToGguf(type="q4_0"), second)) == 1


def test_needs_what_its_inputs_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    model, file, data = [Facts(Model)], [FILE], [Facts(ChatData)]
    assert ToGguf(type="q8_0").requires({"model": model}) == ToGguf.needs
    assert set(ToGguf(type="q4_k_m").requires({"model": model})) == {*ToGguf.needs, LLAMA_CPP_PYTHON}
    light = ToGguf(type="q8_0").requires({"model": file})
    assert LLAMA_CPP_PYTHON in light and set(light) - {LLAMA_CPP_PYTHON} < set(ToGguf.needs)
    assert set(ToGguf(type="q4_k_m").requires({"model": file, "data": data})) == set(light)
    bin_ = _install(tmp_path / "mine")
    assert LLAMA_CPP_PYTHON not in ToGguf(type="q4_k_m", llama_cpp=bin_).requires({"model": model, "data": data})
    monkeypatch.setenv("PATH", str(bin_))
    assert LLAMA_CPP_PYTHON not in ToGguf(type="q4_k_m").requires({"model": file})
    (bin_ / "llama-imatrix").unlink()
    assert LLAMA_CPP_PYTHON not in ToGguf(type="q4_k_m").requires({"model": file})
    assert LLAMA_CPP_PYTHON in ToGguf(type="q4_k_m").requires({"model": file, "data": data})
    asked = ToGguf(type="q4_k_m", llama_cpp=bin_)
    assert any(f"{bin_} lacks llama-imatrix" in problem for problem in _told(asked, FILE, data=data))
    assert programs(bin_, "llama-quantize") == [bin_ / "llama-quantize"]


def test_pins_the_llama_cpp_python_whose_sources_the_converter_is_from() -> None:
    assert f"{converter_module.PACKAGE}=={converter_module.VERSION}" == LLAMA_CPP_PYTHON
    assert all(setting.startswith(f"{converter_module.PACKAGE}:") for setting in ToGguf.build)


@slow
def test_facts_of_a_gguf_file_are_read_from_its_metadata(whole: Gguf, wide: Path) -> None:
    facts = Gguf.facts(whole.path)
    assert facts.config == {"general.architecture": "llama", "general.file_type": 0}
    assert facts.template == (wide / "chat_template.jinja").read_text()
    assert read_gguf(whole.path / "model-f32.gguf", "llama.block_count", "no.such.key") == {"llama.block_count": 2}


def test_what_is_no_gguf_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text(json.dumps({"GGUF": 3}))
    with pytest.raises(ValueError, match=r"model.gguf: it is no GGUF file"):
        Gguf.facts(tmp_path)
