"""What is found before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gptqmodel.conftest import chats, model
from tuneforge import Facts, QuantizedModel, StepError
from tuneforge.artifacts import Tensor
from tuneforge.errors import Finding
from tuneforge.kit.quantized import GPTQMODEL, needs_of, quant_method
from tuneforge_gptqmodel.awq import Awq
from tuneforge_gptqmodel.gptq import Gptq
from tuneforge_gptqmodel.older import older_config


def found(method: Gptq | Awq, given: Facts, *data: Facts) -> list[tuple[str, str, str]]:
    findings: list[Finding] = list(method.check({"model": [given], "data": list(data)}))
    return [(each.level, each.field, f"{each.problem} {each.fix}") for each in findings]


@pytest.mark.parametrize("method", [Gptq(), Awq()])
def test_a_usual_model_with_data_is_taken_without_a_word(method: Gptq | Awq) -> None:
    assert found(method, model(), chats()) == []
    assert found(method, model(), chats(None)) == [], "how many rows there will be is not known yet"


@pytest.mark.parametrize(
    ("method", "given", "field", "told"),
    [
        (Gptq(), model({"mlp.up_proj": (512, 192)}), "group_size", "does not divide the 192 inputs"),
        (Gptq(), model({"mlp.up_proj": (512, 192)}), "group_size", "Set group_size: 64."),
        (Awq(), model({"mlp.up_proj": (512, 40)}), "group_size", "Set group_size: -1."),
        (Awq(group_size=-1), model({"mlp.up_proj": (100, 256)}), "bits", "256 inputs and 100 outputs, does not pack"),
        (Awq(), model({"self_attn.k_proj": (32, 256), "self_attn.v_proj": (32, 256)}), "", "v_proj has 32"),
        (Gptq(bits=3, group_size=-1), model({"mlp.up_proj": (96, 80)}), "bits", "does not pack into 32-bit words at 3"),
        (Gptq(), model(model_type="mamba7"), "", "gptqmodel does not know models of the type mamba7"),
        (Awq(backend="autoawq"), model(model_type="smollm3"), "backend", "autoawq does not know"),
        (Gptq(), model(model_type="gemma3"), "", "gptqmodel does not keep to the layers that a gemma3 is stored with"),
        (
            Awq(),
            model({"mlp.experts.down_proj": (4, 256, 256), "self_attn.q_proj": (256, 256)}, model_type="gpt_oss"),
            "",
            "its experts are one tensor, of which it makes many",
        ),
        (Gptq(), model({"mlp.gate": (8, 256)}), "", "a llama has no linear layers in its blocks"),
        (Gptq(), model(quantization_config={"quant_method": "awq"}), "", "quantized already, by awq"),
        (Gptq(), model(quantization_config={"load_in_4bit": True}), "", "quantized already, by bitsandbytes"),
    ],
)
def test_a_model_that_cannot_be_quantized_so_is_refused(
    method: Gptq | Awq, given: Facts, field: str, told: str
) -> None:
    errors = [(where, text) for level, where, text in found(method, given, chats()) if level == "error"]
    assert [where for where, _ in errors] == [field]
    assert told in errors[0][1]


@pytest.mark.parametrize(("rows", "level"), [(3, "error"), (31, "warning"), (32, None)])
def test_few_rows_to_calibrate_on_are_told(rows: int, level: str | None) -> None:
    assert [each[0] for each in found(Gptq(), model(), chats(rows))] == ([level] if level else [])


def test_without_data_it_is_said_what_is_used() -> None:
    ((level, _, text),) = found(Awq(rows=16, max_length=64), model())
    assert level == "warning"
    assert "the model writes 16 rows of 64 tokens for itself" in text


def test_conversations_need_a_template() -> None:
    given = model()
    bare = Facts(given.kind, given.config, given.tensors, given.tokenizer)
    ((level, _, text),) = found(Gptq(), bare, chats())
    assert level == "error" and "no chat template" in text


def test_what_the_old_libraries_cannot_do_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneforge import Hardware
    from tuneforge_gptqmodel import checks

    monkeypatch.setattr(checks, "hardware", lambda: Hardware(0, 2))
    ((level, field, text),) = found(Gptq(backend="auto-gptq"), model(), chats())
    assert (level, field) == ("error", "backend") and "NVIDIA GPU only, and there is none here" in text
    ((level, field, text),) = found(Awq(backend="autoawq"), model(), chats())
    assert (level, field) == ("warning", "backend") and "does not run what it made" in text
    monkeypatch.setattr(checks, "hardware", lambda: Hardware(1, 2))
    assert found(Gptq(backend="auto-gptq"), model(), chats()) == []
    assert found(Awq(backend="autoawq"), model(), chats()) == []


def test_each_backend_needs_its_own_environment() -> None:
    assert set(GPTQMODEL) < set(Gptq().requires({}))
    assert {"auto-gptq==0.7.1", "transformers==4.51.*"} < set(Gptq(backend="auto-gptq").requires({}))
    assert {"autoawq==0.2.9", "transformers==4.51.*"} < set(Awq(backend="autoawq").requires({}))


def test_the_result_is_foreseen() -> None:
    seen = Gptq(bits=8, group_size=64, act_order=True).foresee({"model": [model()]})
    assert seen.kind is QuantizedModel and seen.template == "{{ messages }}"
    config = seen.config["quantization_config"]
    assert [config[name] for name in ("quant_method", "bits", "group_size", "desc_act", "sym")] == [
        *("gptq", 8, 64, True, True)
    ]
    assert seen.config["model_type"] == "llama"
    down = "model.layers.0.mlp.down_proj"
    assert {name: tensor for name, tensor in seen.tensors.items() if down in name} == {
        f"{down}.qweight": Tensor("I32", (128, 256)),
        f"{down}.qzeros": Tensor("I32", (8, 64)),
        f"{down}.scales": Tensor("F16", (8, 256)),
        f"{down}.g_idx": Tensor("I32", (512,)),
    }
    assert seen.tensors["lm_head.weight"] == model().tensors["lm_head.weight"]
    seen = Awq(group_size=-1).foresee({"model": [model()]})
    config = seen.config["quantization_config"]
    assert [config[name] for name in ("quant_method", "bits", "group_size", "zero_point", "version")] == [
        *("awq", 4, -1, True, "gemm")
    ]
    assert seen.tensors[f"{down}.qweight"] == Tensor("I32", (512, 32))
    assert seen.tensors[f"{down}.qzeros"] == Tensor("I32", (1, 32))


@pytest.mark.parametrize(
    ("config", "method", "need"),
    [
        ({}, "", ()),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq", GPTQMODEL),
        ({"quantization_config": {"quant_method": "awq"}}, "awq", GPTQMODEL),
        ({"quantization_config": {"load_in_8bit": True}}, "bitsandbytes", ("accelerate>=1.10", "bitsandbytes>=0.46.1")),
        (
            {"quantization_config": {"quant_method": "compressed-tensors"}},
            "compressed-tensors",
            ("accelerate>=1.10", "compressed-tensors>=0.15"),
        ),
    ],
)
def test_what_loads_a_quantized_model_follows_from_its_configuration(
    config: dict[str, Any], method: str, need: tuple[str, ...]
) -> None:
    assert (quant_method(config), needs_of(config)) == (method, need)


def test_a_quantization_that_nothing_loads_is_told() -> None:
    with pytest.raises(StepError, match="quantized by hqq"):
        needs_of({"quantization_config": {"quant_method": "hqq"}})


def test_transformers_4_is_told_the_rotary_base_in_its_words() -> None:
    given = {"dtype": "bfloat16", "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}}
    assert older_config(given) == {"torch_dtype": "bfloat16", "rope_theta": 500000.0, "rope_scaling": None}
    scaled = {"rope_parameters": {"rope_theta": 1e6, "rope_type": "linear", "factor": 2.0}}
    assert older_config(scaled) == {"rope_theta": 1e6, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    for rope in ({"rope_type": "proportional"}, {"full_attention": {"rope_type": "default"}}):
        with pytest.raises(StepError, match="transformers 4 does not know"):
            older_config({"rope_parameters": rope})


@pytest.mark.parametrize(
    ("method", "stored", "config", "held"),
    [
        (Awq(), "F16", {"dtype": "float16"}, "F16"),
        (Gptq(), "F16", {"torch_dtype": "float16"}, "F16"),
        (Awq(), "F32", {"torch_dtype": "float32"}, "F16"),
        (Gptq(), "F32", {}, "F16"),
        (Awq(), "BF16", {"dtype": "float32"}, "BF16"),
        (Gptq(backend="auto-gptq"), "BF16", {"dtype": "bfloat16"}, "F16"),
        (Awq(backend="autoawq"), "F32", {"dtype": "float32"}, "F32"),
    ],
)
def test_the_type_of_the_result_follows_from_the_tensors(
    method: Gptq | Awq, stored: str, config: dict[str, str], held: str
) -> None:
    seen = method.foresee({"model": [model(stored=stored, **config)]})
    assert {tensor.dtype for name, tensor in seen.tensors.items() if name.endswith(".weight")} == {held}
    scales = seen.tensors["model.layers.0.mlp.down_proj.scales"].dtype
    assert scales == ("F16" if method.name == "gptq" or method.backend == "autoawq" else held)
    told = {name: value for name, value in seen.config.items() if name in ("dtype", "torch_dtype")}
    words = {"F16": "float16", "F32": "float32", "BF16": "bfloat16"}
    assert set(told.values()) == {words[held]} and set(told) <= {"dtype", *config}


def test_what_gates_linear_attention_stays_as_it_is() -> None:
    given = model({"linear_attn.in_proj_qkv": (256, 256), "linear_attn.in_proj_a": (4, 256)})
    assert found(Gptq(), given, chats()) == []
    seen = Gptq().foresee({"model": [given]}).tensors
    assert seen["model.layers.0.linear_attn.in_proj_a.weight"] == Tensor("BF16", (4, 256))
    assert "model.layers.0.linear_attn.in_proj_qkv.qweight" in seen
