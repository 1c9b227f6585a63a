"""What vLLM requires, told from configurations and tensor headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneforge import Adapter, Facts, Finding, Model, QuantizedModel
from tuneforge.artifacts import Tensor
from tuneforge.kit.vllm_checks import vllm_findings

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "num_attention_heads": 4,
    "dtype": "bfloat16",
}
LAYERS = {"self_attn.q_proj": 256, "self_attn.k_proj": 128, "self_attn.v_proj": 128, "mlp.down_proj": 256}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128, "dynamic": False}
BYTES = WEIGHTS | {"num_bits": 8, "strategy": "channel", "group_size": None}
TOKENS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def compressed(weights: Any = WEIGHTS, inputs: Any = None, form: str = "pack-quantized", **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    settings = {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}}
    return settings | {"ignore": ["lm_head"], **more}


def layer(name: str, **parts: tuple[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {f"model.layers.0.{name}.{part}": Tensor(*told) for part, told in parts.items()}


def stored(form: str, inputs: int = 256, without: str = "", full: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors of a block in 4 bits, as a method stores them, but for one part; some layers as they were."""
    tensors = {"lm_head.weight": Tensor("BF16", (320, 256))}
    for name, out in LAYERS.items():
        groups = inputs // 128
        parts = {
            "gptq": {
                "qweight": ("I32", (inputs // 8, out)),
                "qzeros": ("I32", (groups, out // 8)),
                "scales": ("F16", (groups, out)),
            },
            "awq": {
                "qweight": ("I32", (inputs, out // 8)),
                "qzeros": ("I32", (groups, out // 8)),
                "scales": ("F16", (groups, out)),
            },
            "compressed": {
                "weight_packed": ("I32", (out, inputs // 8)),
                "weight_scale": ("BF16", (out, groups)),
                "weight_shape": ("I64", (2,)),
            },
            "bitsandbytes": {"weight": ("U8", (out * inputs // 2, 1))},
            "full": {"weight": ("BF16", (out, inputs))},
        }["full" if name in full else form]
        tensors |= layer(name, **{part: told for part, told in parts.items() if part != without})
    return tensors


def findings(settings: Any, tensors: dict[str, Tensor] | None = None, **config: Any) -> list[Finding]:
    config = CONFIG | ({"quantization_config": settings} if settings else {}) | config
    kind = QuantizedModel if settings else Model
    return list(vllm_findings(Facts(kind, config, tensors or {}, Path(), "{{ messages }}")))


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        (None, "full"),
        (GPTQ, "gptq"),
        (GPTQ | {"bits": 4, "group_size": -1, "desc_act": True}, "gptq"),
        (AWQ, "awq"),
        (AWQ | {"w_bit": 4, "bits": None}, "awq"),
        (compressed(), "compressed"),
    ],
)
def test_what_vllm_reads_passes(settings: Any, form: str) -> None:
    assert findings(settings, stored(form)) == []


def test_what_depends_on_the_machine_is_told() -> None:
    (plugin,) = findings(NF4 | {"llm_int8_skip_modules": ["lm_head"]}, stored("bitsandbytes"))
    assert plugin.level == "warning" and "vllm-bnb-plugin" in plugin.fix
    int8 = compressed(BYTES, TOKENS, "int-quantized")
    fp8 = compressed(BYTES | {"type": "float"}, TOKENS | {"type": "float"}, "float-quantized")
    static = compressed(
        BYTES | {"type": "float"}, TOKENS | {"type": "float", "strategy": "tensor", "dynamic": False}, "float-quantized"
    )
    for settings, capability in ((int8, "7.5"), (fp8, "8.9"), (static, "8.9")):
        (hardware,) = findings(settings)
        assert hardware.level == "warning" and capability in hardware.problem


@pytest.mark.parametrize(
    ("settings", "tensors", "problem"),
    [
        ({"quant_method": "eetq"}, None, "does not know the quantization eetq"),
        ({"quant_method": "gptq", "bits": 4}, None, "lacks group_size, desc_act, sym"),
        ({"quant_method": "awq"}, None, "lacks bits or w_bit, group_size or q_group_size, zero_point"),
        (GPTQ | {"sym": False}, None, "no GPTQ of 4 bits, asymmetric"),
        (GPTQ | {"bits": 3}, None, "no GPTQ of 3 bits, symmetric"),
        (GPTQ | {"desc_act": True}, None, "given up GPTQ whose groups are in the order"),
        (GPTQ | {"group_size": 16}, None, "no kernel for groups of 16"),
        (GPTQ, stored("gptq", without="qzeros"), "q_proj lacks qzeros"),
        (GPTQ, stored("gptq", inputs=192), "groups of 128 do not divide the 192 inputs"),
        (GPTQ, stored("full"), "not one layer is stored in fewer bits"),
        (GPTQ, stored("gptq", full=("self_attn.k_proj",)), "one layer of q_proj, k_proj, v_proj of model.layers.0"),
        (AWQ | {"bits": 8}, None, "AWQ of 4 bits, not of 8"),
        (AWQ, stored("gptq"), "not packed as vLLM reads AWQ"),
        (AWQ, stored("awq", without="scales"), "q_proj lacks scales"),
        (NF4 | {"bnb_4bit_quant_storage": "bfloat16"}, None, "stored as uint8, not as bfloat16"),
        (NF4, stored("bitsandbytes", full=("mlp.down_proj",)), "stored in full and vLLM expects them bitsandbytes"),
        (
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            layer("mlp.experts.0.w1", weight=("I8", (8, 8))),
            "exp",
        ),
        (compressed(), stored("compressed", full=("mlp.down_proj",)), "stored in full and vLLM expects them"),
        (compressed(), stored("compressed", without="weight_scale"), "q_proj lacks weight_scale"),
        (compressed(WEIGHTS | {"actorder": "group"}), None, "given up groups in the order of activations"),
        (compressed(WEIGHTS | {"symmetric": False, "num_bits": 8}), None, "no scheme for 8-bit int weights"),
        (compressed(WEIGHTS | {"group_size": 100}), None, "no kernel for groups of 100"),
        (compressed(form="int-quantized"), None, "no scheme for 4-bit int weights by group in int-quantized"),
        (compressed(BYTES, TOKENS | {"strategy": "group"}, "int-quantized"), None, "no scheme for 8-bit int weights"),
        (compressed(sparsity_config={"targets": ["Linear"]}), None, "given up sparse weights"),
        (compressed(None), None, "has no targets or no weights"),
    ],
)
def test_what_vllm_refuses(settings: Any, tensors: Any, problem: str) -> None:
    found = [finding for finding in findings(settings, tensors) if finding.level == "error"]
    assert any(problem in finding.problem for finding in found), found
    assert all(finding.fix for finding in found)


def test_layers_that_are_named_as_skipped_may_be_full() -> None:
    name = "model.layers.0.mlp.down_proj"
    full = {"full": ("mlp.down_proj",)}
    for ignored in (name, "re:.*down_proj$"):
        assert findings(compressed(ignore=["lm_head", ignored]), stored("compressed", **full)) == []
    for skipped in (name, "down_proj", "model.layers.0"):
        found = findings(NF4 | {"llm_int8_skip_modules": ["lm_head", skipped]}, stored("bitsandbytes", **full))
        assert [finding.level for finding in found] == ["warning"]


def test_parts_of_a_layer_that_vllm_makes_one_of_are_not_known_by_their_names() -> None:
    parts = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    tensors = stored("bitsandbytes", full=parts)
    by_name = NF4 | {"llm_int8_skip_modules": ["lm_head", "q_proj", "k_proj", "v_proj"]}
    assert any("stored in full" in finding.problem for finding in findings(by_name, tensors))
    by_block = NF4 | {"llm_int8_skip_modules": ["lm_head", "self_attn"]}
    assert [finding.level for finding in findings(by_block, tensors)] == ["warning"]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"architectures": ["GPTNeoXForCausalLM"]}, "through transformers' own code"),
        ({"architectures": ["NoSuchForCausalLM"]}, "no NoSuchForCausalLM of its own"),
        ({"hidden_size": 240, "num_attention_heads": 20}, "heads of 12 are no multiple of 8"),
        ({"dtype": "float32"}, "stored in float32"),
    ],
)
def test_what_vllm_reads_otherwise_is_a_warning(config: Any, problem: str) -> None:
    (finding,) = findings(None, **config)
    assert finding.level == "warning" and problem in finding.problem


def test_symmetric_awq_is_slow() -> None:
    (finding,) = findings(AWQ | {"zero_point": False}, stored("awq"))
    assert finding.level == "warning" and "without Marlin" in finding.problem


def test_a_model_without_architecture_or_template() -> None:
    (finding,) = findings(None, architectures=None)
    assert finding.level == "error" and "names no architecture" in finding.problem
    (finding,) = vllm_findings(Facts(Model, CONFIG, {}, Path(), None))
    assert "no chat template" in finding.problem


def test_of_an_adapter_it_is_the_model_that_counts() -> None:
    base = Facts(Model, CONFIG | {"dtype": "float32"}, {}, Path(), "{{ messages }}")
    (finding,) = vllm_findings(Facts(Adapter, {"peft_type": "LORA"}, {}, Path(), "{{ messages }}", base))
    assert "float32" in finding.problem
