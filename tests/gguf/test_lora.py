"""LoRA adapters for llama.cpp: written, loaded on their base there, and compared with what PEFT makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from tuneforge import Adapter, Facts, GgufAdapter, Model, Step, StepError
from tuneforge.kit.models import load_model, save_adapter
from tuneforge_gguf import ToGgufLora, lora


def _adapter(folder: Path, model: Path, **settings: Any) -> Adapter:
    base = Model(model, "b" * 64)
    torch.manual_seed(1)
    given = {"r": 4, "lora_alpha": 4, "target_modules": "all-linear", "init_lora_weights": False}
    network: Any = get_peft_model(load_model(base, dtype=torch.float32), LoraConfig(**(given | settings)))
    folder.mkdir()
    save_adapter(network, model, folder, base)
    return Adapter(folder, "a" * 64, base)


@pytest.fixture
def step(tmp_path: Path) -> Step:
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    return Step("lora", tmp_path / "out", tmp_path / "scratch", seed=1, threads=1, send=lambda event: None)


@pytest.fixture(autouse=True)
def _cached(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in ("UV_OFFLINE", "HF_HUB_OFFLINE"):  # a plan would warn
        monkeypatch.delenv(switch, raising=False)
    if request.node.get_closest_marker("slow"):
        converter = request.getfixturevalue("converter")
        monkeypatch.setattr(lora, "fetch_converter", lambda cache, log: converter)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "type_"),
    [
        ({}, "f16"),
        pytest.param({"use_rslora": True, "r": 9}, "f32", marks=pytest.mark.whole),
        pytest.param({"rank_pattern": {"q_proj": 2}}, "bf16", marks=pytest.mark.whole),
    ],
)
def test_llama_cpp_makes_of_base_and_adapter_what_peft_does(
    tmp_path: Path, llama: Path, step: Step, settings: dict[str, Any], type_: str
) -> None:
    adapter = _adapter(tmp_path / "adapter", llama, **settings)
    ToGgufLora(type=type_).run(adapter, step)
    (file,) = step.out.iterdir()
    assert file.name == f"adapter-{type_}.gguf" and not list(GgufAdapter.missing(step.out))
    assert step.figures["modules"] == 14 and step.figures["adapter_moves"] > 0.2
    assert step.figures["logits_error"] < 0.05
    assert step.base == adapter.base.digest if adapter.base else False
    assert str(tmp_path).encode() not in file.read_bytes()
    first = file.read_bytes()
    (tmp_path / "again").mkdir()
    assert adapter.base is not None
    converter = lora.fetch_converter(tmp_path, print)
    again = lora.export_adapter(adapter, adapter.base, tmp_path / "again", type_, converter, log=print)
    assert again.read_bytes() == first


def _halved(file: Path) -> None:
    reader = gguf.GGUFReader(file, "r+")
    field = reader.fields["adapter.lora.alpha"]
    field.parts[field.data[0]][0] /= 2


def _of_another_module(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content.replace(b"blk.1.ffn_up.weight.lora_a", b"blk.1.ffn_up.weight.lora_x"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_halved, "differ from those of transformers and PEFT by"),
        (_of_another_module, "has 13 pairs of matrices, and the adapter 14"),
    ],
)
def test_finds_what_is_not_the_adapter_and_leaves_no_file(
    tmp_path: Path,
    llama: Path,
    step: Step,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    problem: str,
) -> None:
    right = lora.export_adapter

    def wrong(*arguments: Any, **options: Any) -> Path:
        file = right(*arguments, **options)
        spoil(file)
        return file

    monkeypatch.setattr(lora, "export_adapter", wrong)
    with pytest.raises(StepError, match=problem):
        ToGgufLora().run(_adapter(tmp_path / "adapter", llama), step)
    assert not list(step.out.iterdir())


@pytest.mark.slow
def test_leaves_nothing_where_the_converter_stumbles(tmp_path: Path, llama: Path, step: Step) -> None:
    adapter = _adapter(tmp_path / "adapter", llama)
    tensors = load_file(adapter.path / "adapter_model.safetensors")
    tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight"] = torch.zeros(2, 2)
    save_file(tensors, adapter.path / "adapter_model.safetensors")
    with pytest.raises(StepError, match="converter refused the model"):
        ToGgufLora().run(adapter, step)
    assert not list(step.out.iterdir())


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"peft_type": "IA3"}, "llama.cpp knows LoRA adapters alone, not IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"alpha_pattern": {"q_proj": 2}}, "one alpha"),
        ({"use_rslora": True, "rank_pattern": {"q_proj": 2}}, "every rank"),
        ({"bias": "all"}, "biases"),
        ({"lora_bias": True}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "no place for what modules_to_save holds"),
        ({}, ""),
    ],
)
def test_a_plan_says_what_llama_cpp_has_no_place_for(config: dict[str, Any], problem: str) -> None:
    base = Facts(Model, {"architectures": ["LlamaForCausalLM"]})
    found = [
        finding.problem
        for finding in ToGgufLora().check({"model": [Facts(Adapter, {"peft_type": "LORA"} | config, base=base)]})
    ]
    assert len(found) == bool(problem) and all(problem in each for each in found)


def test_a_plan_looks_at_the_tokenizer_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    base = Facts(Model, tokenizer=tmp_path)
    (found,) = ToGgufLora().check({"model": [Facts(Adapter, {"peft_type": "LORA"}, base=base)]})
    assert "cannot read a Unigram tokenizer" in found.problem


def test_a_plan_wants_the_base_in_full() -> None:
    base = Facts(Model, {"quantization_config": {"quant_method": "gptq"}})
    (found,) = ToGgufLora().check({"model": [Facts(Adapter, {"peft_type": "LORA"}, base=base)]})
    assert "the adapter sits on a quantized model" in found.problem
    assert ToGgufLora().foresee({"model": [Facts(Adapter, base=base)]}).base is base
