"""Which layers get an adapter: on a tiny random model of every architecture, against a list written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from tuneforge import Facts, Model, StepError
from tuneforge.artifacts import Tensor
from tuneforge_trl.adapters.lora import Lora
from tuneforge_trl.layers.targets import check_targets, linear_layers
from tuneforge_trl.layers.targets_engine import endings, target_modules, text_layers
from tuneforge_trl.sft import Sft

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHARED = {**EXPERTS, "shared_expert_intermediate_size": 16}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
DEEPSEEK = {
    **LATENT,
    "n_routed_experts": 4,
    "moe_intermediate_size": 16,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
QKVO = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
GATED = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
SHARED_EXPERT = [f"mlp.shared_expert.{name}_proj" for name in ("gate", "up", "down")]
NEOX = ["attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"]

# Of each: how its configuration differs, where its blocks are, and the linear layers of a block.
ARCHITECTURES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "llama": ({}, "model.layers", QKVO + GATED),
    "mistral": ({}, "model.layers", QKVO + GATED),
    "qwen2": ({}, "model.layers", QKVO + GATED),
    "qwen3": ({"head_dim": 8}, "model.layers", QKVO + GATED),
    "qwen2_moe": (SHARED, "model.layers", QKVO + SHARED_EXPERT),
    "qwen3_moe": ({**EXPERTS, "head_dim": 8}, "model.layers", QKVO),
    "mixtral": ({"num_local_experts": 4}, "model.layers", QKVO),
    "gpt_oss": ({"num_local_experts": 4, "head_dim": 8}, "model.layers", QKVO),
    "phi": ({}, "model.layers", [*QKVO[:3], "self_attn.dense", "mlp.fc1", "mlp.fc2"]),
    "phi3": ({}, "model.layers", ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"]),
    "gemma": ({"head_dim": 8}, "model.layers", QKVO + GATED),
    "gemma2": ({"head_dim": 8}, "model.layers", QKVO + GATED),
    "gemma3_text": ({"head_dim": 8}, "model.layers", QKVO + GATED),
    "gpt_neox": ({}, "gpt_neox.layers", NEOX),
    "falcon": ({}, "transformer.h", [name.replace("attention.", "self_attention.") for name in NEOX]),
    "gpt2": (GPT, "transformer.h", ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]),
    "gpt_bigcode": (GPT, "transformer.h", ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]),
    "opt": (
        {"word_embed_proj_dim": 16, "ffn_dim": 48},  # with projections before and after the blocks
        "model.decoder.layers",
        [*QKVO[:3], "self_attn.out_proj", "fc1", "fc2"],
    ),
    "ctrl": (
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 48, "n_positions": 64},  # layers that are called by a number
        "transformer.h",
        [f"multi_head_attention.{name}" for name in ("Wq", "Wk", "Wv", "dense")] + ["ffn.0", "ffn.2"],
    ),
    "mamba": ({"state_size": 4}, "backbone.layers", ["mixer.in_proj"]),
    "mamba2": ({"state_size": 4, "num_heads": 8, "head_dim": 8, "n_groups": 1}, "backbone.layers", ["mixer.in_proj"]),
}
NAMES = [
    name if name in ("llama", "qwen2_moe", "gpt2") else pytest.param(name, marks=pytest.mark.whole)
    for name in ARCHITECTURES
]


def build(name: str, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **SIZES, **settings)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def by_hand(name: str) -> list[str]:
    _, blocks, layers = ARCHITECTURES[name]
    return sorted(f"{blocks}.{block}.{layer}" for block in range(2) for layer in layers)


@pytest.fixture
def warned() -> list[str]:
    return []


def as_stored(model: PreTrainedModel) -> Facts:
    tensors = {name: Tensor("F32", tuple(weight.shape)) for name, weight in model.state_dict().items()}
    return Facts(Model, model.config.to_dict(), tensors)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_layers_of_every_architecture(name: str) -> None:
    with torch.device("meta"):
        model = build(name, **ARCHITECTURES[name][0])
    assert sorted(text_layers(model)) == by_hand(name)
    # What a plan goes by: the names alone, among which there are parameters of other modules.
    stored = as_stored(model)
    assert sorted(linear_layers({name: tensor.shape for name, tensor in stored.tensors.items()})) == by_hand(name)
    last = {layer.rsplit(".", 1)[-1] for layer in by_hand(name)}
    assert list(check_targets(sorted(last), stored)) == []
    assert [finding.level for finding in check_targets([*last, "lm_head"], stored)] == ["error"]


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_on_them_changes_what_the_model_says(name: str, warned: list[str], tmp_path: Path) -> None:
    model = build(name, **ARCHITECTURES[name][0])
    targets = target_modules(model, "auto", warned.append)
    assert targets == sorted(targets) == target_modules(model, "auto", warned.append)
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets)
    adapted: Any = get_peft_model(model, settings).eval()  # without the dropout of GPT-2
    layers = [layer.removeprefix("base_model.model.") for layer, module in adapted.named_modules() if has_lora(module)]
    assert sorted(layers) == by_hand(name)
    assert all("lora_" in weight for weight, tensor in adapted.named_parameters() if tensor.requires_grad)
    ids = torch.arange(8)[None]
    before = adapted(input_ids=ids).logits.detach()
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, 10.0)
    adapted(input_ids=ids, labels=ids).loss.backward()
    # The second matrix of a pair begins at zero, so that in the first step it alone has a gradient.
    second = [tensor for weight, tensor in adapted.named_parameters() if "lora_B" in weight]
    assert len(second) == len(layers) and all(tensor.grad.abs().max() > 0 for tensor in second)
    optimizer.step()
    after = adapted(input_ids=ids).logits
    assert not torch.equal(after, before)
    with adapted.disable_adapter():
        assert torch.equal(adapted(input_ids=ids).logits, before)
    # Loaded again it sits where it sat: PEFT reads the names anew.
    adapted.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(build(name, **ARCHITECTURES[name][0]), tmp_path).eval()
    assert torch.equal(again(input_ids=ids).logits, after)


def has_lora(module: Any) -> bool:
    return hasattr(module, "lora_A") and len(module.lora_A) > 0


def test_a_classifier_gets_none_on_its_score(warned: list[str]) -> None:
    config = AutoConfig.for_model("llama", **SIZES)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    assert sorted(text_layers(model)) == by_hand("llama")
    assert target_modules(model, "auto", warned.append) == sorted(layer.split(".")[-1] for layer in QKVO + GATED)


def test_eyes_get_none(warned: list[str]) -> None:
    config = AutoConfig.for_model(
        "llava",
        text_config={"model_type": "llama", **SIZES},
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
        },
    )
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    layers = text_layers(model)
    assert len(layers) == 14 and not any("vision" in layer or "projector" in layer for layer in layers)
    for targets in ("auto", ["q_proj", "v_proj"]):
        chosen = target_modules(model, targets, warned.append)
        named = [name for name, _ in model.named_modules() if any(f".{name}".endswith(f".{end}") for end in chosen)]
        assert named == [layer for layer in layers if targets == "auto" or layer.endswith(tuple(targets))]


def test_dense_layers_that_peft_would_take_for_experts_are_told_of(warned: list[str]) -> None:
    with torch.device("meta"):
        model = build("deepseek_v3", **DEEPSEEK)
    attention = ["kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "q_a_proj", "q_b_proj"]
    assert target_modules(model, "auto", warned.append) == attention
    assert warned == [
        "down_proj, gate_proj, up_proj get no adapter: PEFT takes these names for matrices of the experts"
    ]
    with pytest.raises(StepError, match="PEFT takes gate_proj for matrices of the experts"):
        target_modules(model, ["q_a_proj", "gate_proj"], warned.append)


def test_named_layers_are_left_as_they_are(warned: list[str]) -> None:
    with torch.device("meta"):
        model = build("llama")
    assert target_modules(model, ["v_proj", "q_proj"], warned.append) == ["q_proj", "v_proj"]


def test_endings_stand_for_what_is_wanted_and_for_nothing_else() -> None:
    every = ["h", "h.0", "h.1", "h.0.ffn.0", "h.1.ffn.0", "h.0.q", "h.1.q", "head.q", "h.0.v"]
    assert endings(["h.0.ffn.0", "h.1.ffn.0", "h.0.v"], every) == ["ffn.0", "v"]
    assert endings(["h.0.q", "h.1.q"], every) == ["0.q", "1.q"]


def mixture(**others: tuple[int, ...]) -> Facts:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (64, 32),
        "model.layers.0.self_attn.q_proj.weight": (32, 32),
        "model.layers.0.mlp.gate.weight": (2, 32),
        "model.layers.0.mlp.shared_expert_gate.weight": (1, 32),
        **{f"model.layers.0.mlp.experts.{n}.w1.weight": (16, 32) for n in range(2)},
        **others,
    }
    return Facts(Model, {"tie_word_embeddings": True}, {name: Tensor("BF16", shape) for name, shape in shapes.items()})


def test_what_a_plan_says_of_a_mixture_as_files_have_it() -> None:
    assert linear_layers({name: tensor.shape for name, tensor in mixture().tensors.items()}) == [
        "model.layers.0.self_attn.q_proj"
    ]
    (finding,) = check_targets("auto", mixture())
    assert (finding.level, finding.problem) == (
        "warning",
        "the 2 experts of each mixture get no adapter, all other layers do",
    )
    assert list(check_targets(["q_proj"], mixture())) == []
    assert [
        finding.problem for finding in check_targets(["w1", "gate", "shared_expert_gate", "lm_head"], mixture())
    ] == [
        "w1 lies in the experts of a mixture, which get no adapter",
        "gate is the router of a mixture, which gets no adapter",
        "shared_expert_gate is the router of a mixture, which gets no adapter",
        "lm_head is the output head and the embedding as well, tied to it, which gets no adapter",
    ]


def test_quantized_layers_are_known_by_their_names() -> None:
    names = ["model.layers.0.self_attn.q_proj.qweight", "model.layers.0.self_attn.k_proj.weight_packed"]
    shapes = dict.fromkeys([*names, "model.layers.0.self_attn.q_proj.qzeros"], (4, 32))
    assert linear_layers(shapes) == [name.rpartition(".")[0] for name in names]


def test_a_matrix_that_kernels_read_past_its_module() -> None:
    names = [f"backbone.layers.0.mixer.{name}" for name in ("in_proj.weight", "out_proj.weight", "A_log", "D")]
    model = Facts(Model, {}, dict.fromkeys(names, Tensor("F32", (32, 32))))
    (finding,) = check_targets(["out_proj", "in_proj"], model)
    assert finding.level == "warning" and "fused kernels read out_proj past its module" in finding.problem


def test_the_plan_tells_of_an_adapter_on_the_head(base: Model) -> None:
    facts = Model.facts(base.path)
    (finding,) = Sft(adapter=Lora(target_modules=["lm_head"])).check({"model": [facts]})
    assert finding.level == "error" and "output head" in finding.problem


@pytest.mark.slow
def test_an_adapter_names_its_layers_as_shortly_as_it_can(base: Model, make_chats: Any, carry_out: Any) -> None:
    run = carry_out(Sft(steps=1, adapter={"r": 2}), base, make_chats())
    config = json.loads(run.files()["adapter_config.json"])
    assert config["target_modules"] == sorted(layer.split(".")[-1] for layer in QKVO + GATED)
    assert run.log[0].startswith("trainable: ") and run.warnings == []
