"""Several models as the experts of a mixture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.mergekit.conftest import TEXTS, Merged, make, weights, with_config
from tuneforge import Adapter, Facts, Model, StepError
from tuneforge.artifacts import read_json, read_tensors
from tuneforge.kit.models import load_model, save_adapter
from tuneforge_mergekit.mixtures import unmixable
from tuneforge_mergekit.moe import Moe

PROMPTS = [["Merging makes one model."], ["What each has learnt is kept.", "A part of it is kept."]]
PROBE = torch.arange(40)[None] * 7 % 280
PARTS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}

Merge = Callable[..., Merged]


def logits(model: Model) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = load_model(model, dtype=torch.float32)(PROBE).logits
    return found


def with_other_mlps(base: Model, folder: Path, seed: int) -> Model:
    """The base with MLPs of its own."""
    shutil.copytree(base.path, folder)
    lot = torch.Generator().manual_seed(seed)
    save_file(
        {
            name: tensor + 0.1 * torch.randn(tensor.shape, generator=lot) if ".mlp." in name else tensor
            for name, tensor in weights(base).items()
        },
        folder / "model.safetensors",
        {"format": "pt"},
    )
    return Model(folder, str(seed) * 64)


@pytest.fixture
def two(base: Model, tmp_path: Path) -> list[Model]:
    return [with_other_mlps(base, tmp_path / str(seed), seed) for seed in (1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "gate", ["hidden", "cheap_embed", "random", pytest.param("uniform_random", marks=pytest.mark.whole)]
)
def test_a_mixture_of_each_gate_generates(gate: Any, base: Model, two: list[Model], merge: Merge) -> None:
    options = {} if gate.endswith("random") else {"prompts": PROMPTS, "against": [PROMPTS[1], []]}
    merged = merge(Moe(gate=gate, experts_per_token=1, **options), two, base)
    model: Any = AutoModelForCausalLM.from_pretrained(merged.step.out)
    tokenizer = AutoTokenizer.from_pretrained(merged.step.out)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_tensors="pt"
    )
    answer = model.generate(ids["input_ids"], max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > ids["input_ids"].shape[1]
    config = read_json(merged.step.out / "config.json")
    assert (config["architectures"], config["num_local_experts"], config["num_experts_per_tok"]) == (
        ["MixtralForCausalLM"],
        2,
        1,
    )
    # Each expert is its model's MLP, in the layout that llama.cpp and vLLM read; all else is the base's.
    found, before = merged.weights, [weights(model) for model in two]
    for name, tensor in before[0].items():
        if ".mlp." not in name:
            assert torch.equal(found[name], tensor)
            continue
        layer, _, part = name.removesuffix(".weight").partition(".mlp.")
        for number, expert in enumerate(before):
            assert torch.equal(found[f"{layer}.block_sparse_moe.experts.{number}.{PARTS[part]}.weight"], expert[name])
    gates = [tensor for name, tensor in found.items() if name.endswith("block_sparse_moe.gate.weight")]
    assert len(gates) == 3 and all(tensor.shape == (2, 32) for tensor in gates)
    assert not any(torch.equal(gates[0], other) for other in gates[1:]) or gate == "cheap_embed"
    assert merged.figures["largest_logit"] > 0 and "layers_with_like_gates" in merged.figures


def test_experts_that_are_one_model_compute_what_it_does(base: Model, two: list[Model], merge: Merge) -> None:
    """The router's weights sum to 1."""
    merged = merge(Moe(gate="random"), [two[0], replace(two[0], digest="x" * 64)])
    assert torch.allclose(logits(merged.model), logits(two[0]), atol=1e-4)


def test_a_token_goes_where_the_prompts_say(base: Model, two: list[Model], merge: Merge) -> None:
    """With gates made of embeddings, by hand: their sum, of length 1."""
    prompts = [["merging"], ["kept"]]
    merged = merge(Moe(gate="cheap_embed", prompts=prompts, experts_per_token=1), two, base)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    embedding = weights(base)["model.embed_tokens.weight"]
    for number, (text,) in enumerate(prompts):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        wanted = embedding[ids].sum(0)
        found = merged.weights["model.layers.1.block_sparse_moe.gate.weight"][number]
        assert torch.allclose(found, wanted / wanted.norm(), atol=1e-6)


def test_without_a_base_all_else_is_of_the_first(three: list[Model], merge: Merge) -> None:
    merged = merge(Moe(prompts=PROMPTS), three[1:])
    name = "model.layers.2.self_attn.q_proj.weight"
    assert torch.equal(merged.weights[name], weights(three[1])[name])


@pytest.mark.slow
def test_an_adapter_is_merged_first(base: Model, two: list[Model], merge: Merge, tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["up_proj"], init_lora_weights=False)
    model: Any = get_peft_model(load_model(base, dtype=torch.float32), config)
    (tmp_path / "adapter").mkdir()
    save_adapter(model, base.path, tmp_path / "adapter", base)
    adapter = Adapter(tmp_path / "adapter", "a" * 64, base)
    merged = merge(Moe(prompts=PROMPTS), [adapter, two[1]], base)
    name = "model.layers.0.{}.weight"
    expert = merged.weights[name.format("block_sparse_moe.experts.0.w3")]
    before = weights(base)
    assert not torch.allclose(expert, before[name.format("mlp.up_proj")], atol=1e-3)
    assert torch.equal(
        merged.weights[name.format("block_sparse_moe.experts.0.w1")], before[name.format("mlp.gate_proj")]
    )
    with pytest.raises(StepError, match="adapter on another model than the base"):
        merge(Moe(prompts=PROMPTS), [adapter, two[1]], two[0])


@pytest.mark.slow
def test_the_same_bytes_twice_in_several_files_and_another_type(base: Model, two: list[Model], merge: Merge) -> None:
    method = Moe(gate="random", noise=0.01, dtype="bfloat16", shard_size="30kB")
    one, again = (merge(method, two, base).files() for _ in range(2))
    assert one == again
    assert sum(name.endswith(".safetensors") for name in one) > 2
    index = json.loads(one["model.safetensors.index.json"])
    assert set(index["weight_map"].values()) == {name for name in one if name.endswith(".safetensors")}
    merged = merge(method, two, base, seed=2)
    assert merged.files()["config.json"] == one["config.json"] and merged.files() != one
    assert {tensor.dtype for tensor in merged.weights.values()} == {torch.bfloat16}
    assert index["metadata"]["total_size"] == sum(2 * tensor.numel() for tensor in merged.weights.values())
    noisy = merged.weights["model.layers.0.block_sparse_moe.experts.0.w1.weight"].float()
    assert 0.005 < float((noisy - weights(two[0])["model.layers.0.mlp.gate_proj.weight"]).std()) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["qwen3", "mistral"])
def test_other_architectures(architecture: str, merge: Merge, tmp_path: Path) -> None:
    first = make(tmp_path / "made", architecture=architecture)
    window = {"sliding_window": 8} if architecture == "mistral" else {}  # narrower than the probe
    first = with_config(first, tmp_path / "first", **window)
    merged = merge(Moe(gate="random"), [first, with_other_mlps(first, tmp_path / "second", 1)])
    kind = {"mistral": "mixtral", "qwen3": "qwen3_moe"}[architecture]
    assert read_json(merged.step.out / "config.json")["model_type"] == kind
    facts = Moe(gate="random").foresee({"models": [Model.facts(first.path)] * 2})
    assert facts.tensors == read_tensors(merged.step.out)
    assert facts.config.get("sliding_window") == read_json(merged.step.out / "config.json")["sliding_window"]
    same = merge(Moe(gate="random"), [first, replace(first, digest="x" * 64)])
    assert torch.allclose(logits(same.model), logits(first), atol=1e-4)


def test_what_comes_out(base: Model, two: list[Model], merge: Merge) -> None:
    method = Moe(prompts=PROMPTS, dtype="float16")
    facts = method.foresee({"models": [Model.facts(model.path) for model in two], "base": [Model.facts(base.path)]})
    merged = merge(method, two, base)
    assert facts.tensors == read_tensors(merged.step.out)
    assert (facts.kind, facts.tokenizer, facts.template) == (Model, base.path, Model.facts(merged.step.out).template)
    written = read_json(merged.step.out / "config.json")
    told = ("model_type", "architectures", "num_local_experts", "num_experts_per_tok", "dtype", "hidden_size")
    assert {name: facts.config[name] for name in told} == {name: written[name] for name in told}
    assert Moe().foresee({}).kind is Model


def test_gates_that_are_alike_are_told(base: Model, two: list[Model], merge: Merge) -> None:
    merged = merge(Moe(gate="cheap_embed", prompts=[["kept it"], ["kept it it"]]), two, base)
    assert merged.figures["layers_with_like_gates"] == 3
    assert any("nearly alike" in event.get("problem", "") for event in merged.events)


def test_what_is_refused_before(base: Model, two: list[Model], tmp_path: Path) -> None:
    larger = make(tmp_path / "larger", vocabulary=300, texts=("Quick foxes jump.", *TEXTS))
    facts = [replace(Model.facts(model.path), digest=model.digest) for model in two]

    def problem(*models: Facts, base: Facts | None = None, **options: Any) -> str:
        given = {"models": list(models or facts)} | ({"base": [base]} if base else {})
        findings = Moe(**({"prompts": PROMPTS} | options)).check(given)
        (finding,) = [finding for finding in findings if finding.level == "error"]
        return finding.problem

    def like(**config: Any) -> Facts:
        return replace(facts[0], config={**facts[0].config, **config})

    assert not list(Moe(prompts=PROMPTS).check({"models": facts}))
    assert not list(Moe(gate="random").check({"models": facts, "base": [Model.facts(base.path)]}))
    assert problem(facts[0]) == "a mixture has 2 or more models, not 1"
    assert problem(experts_per_token=3) == "3 experts a token of 2 models"
    assert problem(facts[1], like(quantization_config={})) == "model 1 is quantized"
    assert problem(base=like(attention_bias=True)) == "the base has biases (attention_bias), which a mixtral has not"
    assert not list(Moe(gate="random").check({"models": [facts[0], Model.facts(larger.path)]}))
    assert "differ in hidden_size (32 and 48)" in problem(facts[1], like(hidden_size=48))
    assert unmixable({"model_type": "qwen3", "use_sliding_window": True}).startswith("has windows in some layers only")
    gpt2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    found = list(Moe(prompts=PROMPTS).check({"models": [facts[0], replace(facts[1], config=gpt2)]}))
    assert [finding.problem for finding in found] == [
        "model 1 is a gpt2, of which there is no mixture",
        "model 0 is a LlamaForCausalLM, and model 1 a GPT2LMHeadModel",
    ]
    assert problem(prompts=PROMPTS[:1]) == "prompts has 1 lists for 2 models"
    assert problem(against=PROMPTS[:1]) == "against has 1 lists for 2 models"
    assert problem(prompts=[["a"], []]) == "a model has no prompts"
    assert "no router can tell them apart" in problem(prompts=[["a"], ["a"]])
    assert not list(Moe(prompts=[["a"], ["a"]], against=[[], ["b"]]).check({"models": facts}))
    assert problem(gate="random") == "with gates that are random, prompts are not read"
    assert problem(facts[0], facts[0]).startswith("all models are one")
    adapter = Facts(Adapter, {"peft_type": "PREFIX_TUNING"}, base=facts[0])
    assert "an adapter that cannot be merged" in problem(adapter, facts[1])
