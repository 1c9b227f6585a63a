"""Models in the 4 and 8 bits of bitsandbytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.trl.colours import COLOURS
from tests.tuned import answers
from tuneforge import Facts, Model, QuantizedModel, Step, StepError
from tuneforge.artifacts import Tensor, read_json, read_tensors
from tuneforge.kit.packed import is_packed, linear_layers
from tuneforge.kit.vllm_checks import vllm_findings
from tuneforge_bitsandbytes import engine
from tuneforge_bitsandbytes.method import BitsAndBytes


@pytest.fixture
def carry_out(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Step]:
    def carry_out(method: BitsAndBytes, model: Model) -> Step:
        folder = tmp_path_factory.mktemp("step")
        for name in ("out", "scratch"):
            (folder / name).mkdir()
        step = Step("small", folder / "out", folder / "scratch", seed=1, threads=1, send=lambda event: None)
        method.run(model=model, step=step)
        return step

    return carry_out


def files(step: Step) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(step.out.iterdir())}


def reloaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, device_map={"": "cpu"}).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("type_", "bytes_a_weight", "error"),
    [
        ("nf4", 0.6, 0.5),
        pytest.param("fp4", 0.6, 0.7, marks=pytest.mark.whole),
        pytest.param("int8", 1.05, 0.15, marks=pytest.mark.whole),
    ],
)
def test_a_tuned_model_says_the_same_in_fewer_bits(
    type_: str, bytes_a_weight: float, error: float, tuned: Model, carry_out: Callable[..., Step]
) -> None:
    method = BitsAndBytes(type=type_)
    step = carry_out(method, tuned)
    assert list(QuantizedModel.missing(step.out)) == []
    full, tensors = read_tensors(tuned.path), read_tensors(step.out)
    layers = linear_layers(full, {})
    assert len(layers) == 4 * 7 == step.figures["layers"]
    assert all(is_packed(layer, tensors) for layer in layers)
    assert tensors["model.embed_tokens.weight"] == full["model.embed_tokens.weight"]
    rounded = sum(tensor.bytes for name, tensor in tensors.items() if name.startswith("model.layers."))
    weights = sum(tensor.bytes // 2 for name, tensor in full.items() if name.startswith("model.layers."))
    assert rounded < bytes_a_weight * weights
    assert 0 < step.figures["logits_error"] < error
    assert step.figures["greedy_agreement"] > 0.6

    config = read_json(step.out / "config.json")
    foreseen = method.foresee({"model": [Model.facts(tuned.path)]})
    assert foreseen.kind is QuantizedModel and foreseen.template == Model.facts(tuned.path).template
    settings = foreseen.config["quantization_config"]
    assert settings.items() <= config["quantization_config"].items()
    assert {**foreseen.config, "quantization_config": None} == {**config, "quantization_config": None}
    assert settings["llm_int8_skip_modules"] == ["lm_head"]
    for name in ("generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (step.out / name).exists() == (tuned.path / name).exists()

    result = QuantizedModel(step.out, "q" * 64)
    wanted = [*COLOURS.values()]
    assert answers(reloaded(tuned.path), tuned) == wanted
    same = [ours == theirs for ours, theirs in zip(answers(reloaded(step.out), result), wanted, strict=True)]
    assert sum(same) >= 6
    assert [finding.level for finding in vllm_findings(QuantizedModel.facts(step.out))] == ["warning"]


@pytest.mark.whole
def test_the_same_model_gives_the_same_bytes_and_other_options_others(
    tuned: Model, carry_out: Callable[..., Step], tmp_path: Path
) -> None:
    step = carry_out(BitsAndBytes(), tuned)
    elsewhere = Model(shutil.copytree(tuned.path, tmp_path / "elsewhere"), "a" * 64)
    assert files(carry_out(BitsAndBytes(), elsewhere)) == files(step)
    assert str(tuned.path).encode() not in b"".join(files(step).values())
    settings = read_json(step.out / "config.json")["quantization_config"]
    assert settings["bnb_4bit_compute_dtype"] == "bfloat16"
    for options, changed in (
        ({"double_quant": False}, {"bnb_4bit_use_double_quant": False}),
        ({"compute_dtype": "float32"}, {"bnb_4bit_compute_dtype": "float32"}),
        ({"type": "int8", "threshold": 0}, {"llm_int8_threshold": 0.0, "load_in_8bit": True}),
    ):
        other = carry_out(BitsAndBytes(**options), tuned)
        found = read_json(other.out / "config.json")["quantization_config"]
        assert changed.items() <= found.items()
        assert files(other)["config.json"] != files(step)["config.json"]


@pytest.mark.slow
def test_layers_that_are_skipped_stay_as_they_are(tuned: Model, carry_out: Callable[..., Step]) -> None:
    step = carry_out(BitsAndBytes(skip=["down_proj", "model.layers.0", "*.layers.3.*.q_proj"]), tuned)
    tensors = read_tensors(step.out)
    full = [layer for layer in linear_layers(read_tensors(tuned.path), {}) if not is_packed(layer, tensors)]
    assert len(full) == 7 + 3 + 1
    assert all("down_proj" in name or ".0." in name or name.endswith("3.self_attn.q_proj") for name in full)
    assert tensors["model.layers.0.mlp.down_proj.weight"].dtype == "BF16"


@pytest.mark.slow
def test_a_layer_that_was_silently_left_as_it_was_is_an_error(
    tuned: Model, carry_out: Callable[..., Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = BitsAndBytes.settings

    def forgetful(self: BitsAndBytes, *given: Any) -> dict[str, Any]:
        told = settings(self, *given)
        return told | {"llm_int8_skip_modules": [*told["llm_int8_skip_modules"], "o_proj"]}

    monkeypatch.setattr(BitsAndBytes, "settings", forgetful)
    with pytest.raises(StepError, match=r"left 4 linear layers as they were: model\.layers\.0\.self_attn\.o_proj"):
        carry_out(BitsAndBytes(), tuned)


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_an_error(
    tuned: Model, carry_out: Callable[..., Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is one that was written after a CPU had packed its weights anew."""

    def spoilt(folder: Path, dtype: torch.dtype) -> Any:
        model = reloaded(folder)
        model.model.norm.weight.data[0] += 1
        return model

    monkeypatch.setattr(engine, "_loaded", spoilt)
    with pytest.raises(StepError, match="loaded again, the model's logits differ"):
        carry_out(BitsAndBytes(type="int8"), tuned)


def facts(config: dict[str, Any], *layers: str) -> Facts:
    tensors = {f"{layer}.weight": Tensor("BF16", (64, 64)) for layer in layers}
    return Facts(Model, {"model_type": "llama", **config}, tensors)


LAYERS = ("model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj")


@pytest.mark.parametrize(
    ("options", "model", "problem"),
    [
        ({}, facts({"quantization_config": {"quant_method": "gptq"}}, *LAYERS), "quantized already, by gptq"),
        ({}, facts({"model_type": "odd"}, "model.embed_tokens"), "an? odd has no linear layers"),
        ({}, facts({}, *LAYERS, "model.layers.0.mlp.experts.0.w1"), "leave all experts as they are"),
        ({"skip": ["down_porj"]}, facts({}, *LAYERS), "no linear layer 'down_porj'"),
        ({"skip": ["mlp"]}, facts({}, *LAYERS), "no layer would be left"),
    ],
)
def test_what_a_plan_refuses(options: dict[str, Any], model: Facts, problem: str) -> None:
    import re

    (finding,) = BitsAndBytes(**options).check({"model": [model]})
    assert finding.level == "error" and re.search(problem, finding.problem) and finding.fix


def test_what_a_plan_lets_pass() -> None:
    experts = facts({}, *LAYERS, "model.layers.0.mlp.experts.0.w1")
    assert list(BitsAndBytes(skip=["experts"]).check({"model": [experts]})) == []
    assert list(BitsAndBytes().check({"model": [facts({}, *LAYERS)]})) == []
    assert list(BitsAndBytes().check({"model": [facts({})]})) == [], "a model that is not there yet"
    assert BitsAndBytes().foresee({}).kind is QuantizedModel
    told = json.loads(json.dumps(BitsAndBytes(type="fp4").settings("float16", "embed_out", {}, {})))
    assert told["bnb_4bit_compute_dtype"] == "float16"
