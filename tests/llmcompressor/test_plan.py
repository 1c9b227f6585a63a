"""What a plan says of compressing a model, without llm-compressor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneforge import ChatData, Facts, Model, QuantizedModel
from tuneforge.artifacts import Tensor
from tuneforge_llmcompressor.method import Compressed

CHATS = Facts(ChatData)
LAYERS = ("model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj")


def facts(*layers: str, width: int = 256, **config: Any) -> Facts:
    tensors = {f"{layer}.weight": Tensor("BF16", (64, width)) for layer in layers or LAYERS}
    told = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **config}
    return Facts(Model, told, tensors, Path(), "{{ messages }}")


@pytest.mark.parametrize(
    ("options", "model", "data", "problem", "fix"),
    [
        ({}, facts(), [], "GPTQ is measured on data", "rounding: nearest"),
        ({"scheme": "w8a8"}, facts(), [], "GPTQ and SmoothQuant is measured", "rounding: nearest"),
        ({"scheme": "fp8_static"}, facts(), [], "fp8_static is measured on data", "fp8_dynamic"),
        ({}, facts(quantization_config={"quant_method": "awq"}), [CHATS], "quantized already, by awq", "full-prec"),
        ({}, facts("model.embed_tokens"), [CHATS], "no linear layers", "Leave this step out"),
        ({}, facts(width=192), [CHATS], "groups of 128 do not divide the 192 inputs", "Set it to 64"),
        ({}, facts(width=100), [CHATS], "groups of 128 do not divide the 100 inputs", "Set it to -1"),
        ({"skip": ["gate_proj"]}, facts(), [CHATS], "no linear layer 'gate_proj'", ""),
        ({"scheme": "fp8_dynamic", "rounding": "gptq"}, facts(), [], "gptq rounds integers", "Leave rounding out"),
        ({"smoothing": 0.5}, facts(architectures=["Olmo2ForCausalLM"]), [CHATS], "which norms feed", "smoothing: 0"),
    ],
)
def test_what_a_plan_refuses(options: dict[str, Any], model: Facts, data: list[Facts], problem: str, fix: str) -> None:
    found = Compressed(**options).check({"model": [model], "data": data})
    (finding,) = [finding for finding in found if finding.level == "error"]
    assert problem in finding.problem and fix in finding.fix


@pytest.mark.parametrize(
    ("options", "model", "data", "problem"),
    [
        ({"scheme": "fp8_dynamic"}, facts(), [], "compute capability 8.9"),
        ({"scheme": "w8a8"}, facts(), [CHATS], "compute capability 7.5"),
        ({"rounding": "nearest"}, facts(), [CHATS], "data is not used"),
        ({}, facts(*LAYERS, "model.layers.0.mlp.experts.0.w1"), [CHATS], "may leave the experts as they are"),
    ],
)
def test_what_a_plan_warns_of(options: dict[str, Any], model: Facts, data: list[Facts], problem: str) -> None:
    (finding,) = Compressed(**options).check({"model": [model], "data": data})
    assert finding.level == "warning" and problem in finding.problem


def test_conversations_need_a_template() -> None:
    model = Facts(Model, facts().config, facts().tensors, Path(), None)
    (finding,) = Compressed().check({"model": [model], "data": [CHATS]})
    assert "no chat template" in finding.problem


@pytest.mark.parametrize("scheme", ["w4a16", "w8a8", "fp8_dynamic", "fp8_static"])
def test_what_is_fine_passes_and_is_foreseen(scheme: Any) -> None:
    method = Compressed(scheme=scheme, skip=["up_proj"])
    known = {"model": [facts()], "data": [CHATS] if method.measures else []}
    assert not [finding for finding in method.check(known) if finding.level == "error"]
    foreseen = method.foresee(known)
    assert foreseen.kind is QuantizedModel
    settings = foreseen.config["quantization_config"]
    assert settings["ignore"] == ["lm_head", "model.layers.0.mlp.up_proj"]
    assert settings["format"] == {"w4a16": "pack-quantized", "w8a8": "int-quantized"}.get(scheme, "float-quantized")
    assert Compressed().foresee({}).kind is QuantizedModel
