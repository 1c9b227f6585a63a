"""What cannot be merged is refused by the plan, with what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torch.nn.functional import pad

from tests.mergekit.conftest import TEXTS, Merged, make, weights, with_config
from tuneforge import Adapter, Facts, Finding, Model
from tuneforge.artifacts import Tensor
from tuneforge_mergekit.averages import Linear
from tuneforge_mergekit.base import ModelMerge
from tuneforge_mergekit.fusion import ArceeFusion
from tuneforge_mergekit.layers import Passthrough
from tuneforge_mergekit.pruned import Della, Ties
from tuneforge_mergekit.spheres import NuSlerp, Slerp
from tuneforge_mergekit.task_vectors import TaskArithmetic


def facts(model: Model) -> Facts:
    return Model.facts(model.path)


def found(method: ModelMerge, models: list[Facts], base: Facts | None = None) -> list[Finding]:
    return list(method.check({"models": models} | ({"base": [base]} if base else {})))


def only(method: ModelMerge, models: list[Facts], base: Facts | None = None) -> Finding:
    (finding,) = found(method, models, base)
    assert finding.fix
    return finding


@pytest.fixture(scope="module")
def known(base: Model, three: list[Model]) -> list[Facts]:
    return [facts(model) for model in (base, *three)]


def test_nothing_is_said_of_what_can_be_merged(known: list[Facts]) -> None:
    assert found(Ties(weights=[1, 2, 3], densities=[0.2, [0.1, 0.5], 1]), known[1:], known[0]) == []
    assert found(Slerp(t=[0, 0.5, 1]), known[:2]) == []
    assert found(NuSlerp(), known[:2]) == []


@pytest.mark.parametrize(
    ("method", "count", "problem"),
    [
        (Slerp(), 3, "slerp merges 2 models, not 3"),
        (Slerp(), 1, "slerp merges 2 models, not 1"),
        (Linear(), 1, "linear merges 2 or more models, not 1"),
        (ArceeFusion(), 2, "arcee_fusion merges 1 model, not 2"),
        (Linear(weights=[1, 2]), 3, "weights has 2 values for 3 models"),
        (Ties(densities=[0.5]), 2, "densities has 1 value for 2 models"),
    ],
)
def test_the_number_of_models_and_of_values(method: ModelMerge, count: int, problem: str, known: list[Facts]) -> None:
    base = known[0] if isinstance(method, (ArceeFusion, Ties)) else None
    finding = only(method, known[:count], base)
    assert (finding.problem, finding.level) == (problem, "error")


def test_another_architecture(known: list[Facts], tmp_path: Path) -> None:
    other = facts(make(tmp_path / "other", architecture="qwen2"))
    finding = only(Linear(), [known[0], other])
    assert finding.problem == "model 0 is a LlamaForCausalLM, and model 1 a Qwen2ForCausalLM"
    finding = only(TaskArithmetic(), known[1:2], other)
    assert finding.problem.startswith("the base is a Qwen2ForCausalLM, and model 0")


def test_what_mergekit_asks_for_and_the_models_have_not(tmp_path: Path) -> None:
    config = {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"]}
    name = "gpt_neox.layers.0.attention.{}"
    saved = Facts(Model, config, {name.format("dense.bias"): Tensor("F32", (4,))})
    for number, finding in enumerate(found(Linear(), [saved, saved])):
        assert finding.problem.startswith(f"model {number} is a gpt_neox without weights that mergekit asks for")
    older = replace(saved, tensors={**saved.tensors, name.format("masked_bias"): Tensor("F32", ())})
    assert len(found(Linear(), [saved, saved])) == 2 and found(Linear(), [older, older]) == []


def test_other_sizes_and_shapes(known: list[Facts], tmp_path: Path) -> None:
    wide = facts(make(tmp_path / "wide", intermediate_size=64))
    finding = only(Linear(), [known[0], wide])
    assert finding.problem == (
        "model 0 and model 1 differ in intermediate_size (48 and 64); 9 tensors: model.layers.0.mlp.down_proj.weight "
        "([32, 48] and [32, 64]), model.layers.0.mlp.gate_proj.weight ([48, 32] and [64, 32]), "
        "model.layers.0.mlp.up_proj.weight ([48, 32] and [64, 32]) and 6 more"
    )
    assert finding.level == "error" and finding.fix == "Merge models that were tuned from one base."
    deep = facts(make(tmp_path / "deep", layers=4))
    assert "num_hidden_layers (3 and 4); 9 tensors: " in only(Linear(), [known[0], deep]).problem
    assert "in one of them only" in only(Linear(), [known[0], deep]).problem
    # Layers of models of differing depth can be stacked.
    stack = [{"layers": [0, 3]}, {"model": 1, "layers": [3, 4]}]
    assert found(Passthrough(stack=stack), [known[0], deep]) == []
    heads = replace(known[0], config={**known[0].config, "num_attention_heads": 8})
    assert only(Linear(), [known[0], heads]).problem == "model 0 and model 1 differ in num_attention_heads (4 and 8)"


def test_other_vocabularies(known: list[Facts], tmp_path: Path) -> None:
    larger = facts(make(tmp_path / "larger", vocabulary=300, texts=("Quick foxes jump.", *TEXTS)))
    finding = only(Linear(), [known[0], larger])
    assert "2 tensors: lm_head.weight ([290, 32] and [300, 32]), model.embed_tokens.weight" in finding.problem
    assert finding.fix == "Align their embeddings by token: write tokenizer: union, or the number of a model."
    for tokenizer in ("union", 0):
        assert found(Linear(tokenizer=tokenizer), [known[0], larger]) == []
    shifted = facts(make(tmp_path / "shifted", texts=("Zebras yawn, quick foxes jump and vexed wizards quiz.",)))
    warning = only(Linear(), [known[0], shifted])
    assert warning.level == "warning" and "give tokens other ids" in warning.problem
    assert found(Linear(tokenizer="union"), [known[0], shifted]) == []
    fewer = with_config(Model(tmp_path / "shifted", ""), tmp_path / "fewer", vocab_size=280)
    refused = found(Linear(tokenizer="union"), [known[0], facts(fewer)])
    assert "10 tokens without an embedding" in refused[-1].problem


def test_a_tokenizer_that_is_none(known: list[Facts]) -> None:
    assert only(Linear(tokenizer=2), known[:2]).problem == "tokenizer 2 is none of 2 models"
    finding = only(NuSlerp(tokenizer="base"), known[:2])
    assert (finding.problem, finding.field) == ("tokenizer: base, but no base is wired", "tokenizer")


def test_quantized_models(known: list[Facts]) -> None:
    rounded = replace(known[1], config={**known[1].config, "quantization_config": {"quant_method": "gptq"}})
    finding = only(Linear(), [known[0], rounded])
    assert (finding.problem, finding.level) == ("model 1 is quantized", "error")
    on_rounded = Facts(Adapter, {"peft_type": "LORA"}, base=rounded)
    assert "model 0 is quantized" in {each.problem for each in found(Linear(), [on_rounded, known[0]])}


def test_adapters(known: list[Facts]) -> None:
    base, other = known[:2]
    lora = {"peft_type": "LORA"}
    assert found(TaskArithmetic(), [Facts(Adapter, lora, base=base)], base) == []
    finding = only(TaskArithmetic(), [Facts(Adapter, lora, base=other)], base)
    assert finding.problem == "model 0 is an adapter on another model than the base" and finding.level == "error"
    assert found(Linear(), [Facts(Adapter, lora, base=other), base]) == []
    prefix = only(Linear(), [Facts(Adapter, {"peft_type": "PREFIX_TUNING"}, base=base), other])
    assert prefix.problem.startswith("model 0 is an adapter that cannot be merged: it is a prefix")
    qlora = {"peft_type": "LORA", "auto_mapping": {"quantized_base": "nf4"}}
    assert "rounded to nf4" in only(Linear(), [Facts(Adapter, qlora, base=base), other]).problem


def test_bases_are_told_apart_by_their_digests(known: list[Facts], base: Model, tmp_path: Path) -> None:
    """A model is the same wherever it lies; and not the same because its shapes are."""
    copy = facts(Model(Path(shutil.copytree(base.path, tmp_path / "copy")), ""))

    def level(mine: str | None, its: str | None) -> list[str]:
        adapter = Facts(Adapter, {"peft_type": "LORA"}, base=replace(copy, digest=mine))
        return [finding.level for finding in found(TaskArithmetic(), [adapter], replace(known[0], digest=its))]

    assert level("a", "a") == []
    assert level("a", "b") == ["error"]
    assert level(None, "b") == ["warning"]  # it may be; the step looks again before it merges


def test_filters(known: list[Facts]) -> None:
    finding = only(Slerp(t=[{"filter": "mpl", "value": 0}, {"value": 1}]), known[:2])
    assert (finding.problem, finding.field) == ("no tensor has mpl in its name", "t")
    finding = only(Ties(densities=[0.1, [{"filter": "mlp", "value": 0.2}]]), known[1:3], known[0])
    assert (finding.problem, finding.field) == (
        "densities has no value for tensors that none of its filters fits",
        "densities",
    )
    scaled = Passthrough(stack=[{"layers": [0, 1], "scale": [{"filter": "mlp", "value": 0}]}])
    assert only(scaled, known[:1]).field == "stack"


def test_layers_that_are_none(known: list[Facts]) -> None:
    for layers, problem in (([1, 4], "layers 1 to 4: model 0 has layers 0 to 2"), ([2, 2], "layers 2 to 2")):
        finding = only(Passthrough(stack=[{"layers": layers}]), known[:1])
        assert finding.problem.startswith(problem) and finding.field == "stack.0"
    finding = only(Passthrough(stack=[{"layers": [0, 1]}, {"model": 1, "layers": [0, 1]}]), known[:1])
    assert (finding.problem, finding.field) == ("model 1 is none of 1 model", "stack.1")


def test_options_that_do_not_go_together(known: list[Facts]) -> None:
    assert only(NuSlerp(row_wise=True), known[:2]).field == "row_wise"
    finding = only(Della(densities=[0.9, 0.5], epsilon=0.15), known[1:3], known[0])
    assert finding.problem == "a density of 0.9 and an epsilon of 0.15 give chances outside 0 to 1"
    assert found(Della(densities=1), known[1:3], known[0]) == []


def test_weights_that_add_up_to_zero(known: list[Facts]) -> None:
    zero = ("the weights add up to zero, by which nothing can be divided", "weights")
    for method in (Linear(weights=[1, -1]), Linear(weights=0), NuSlerp(weights=[1, -1])):
        finding = only(method, known[:2])
        assert (finding.problem, finding.field) == zero
    for based in (TaskArithmetic(weights=[1, -1], normalize=True), Ties(weights=[1, -1])):
        finding = only(based, known[1:3], known[0])
        assert (finding.problem, finding.field) == zero
    assert found(Linear(weights=[1, -1], normalize=False), known[:2]) == []
    assert found(TaskArithmetic(weights=[1, -1]), known[1:3], known[0]) == []


def test_other_settings_and_templates_are_a_warning(known: list[Facts]) -> None:
    other = replace(known[1], config={**known[1].config, "rope_theta": 5e5}, template="{{ messages }}")
    settings, templates = found(Linear(), [known[0], other])
    assert (settings.level, templates.level) == ("warning", "warning")
    assert "differ in rope_theta (None and 500000.0): the result has those of model 0" in settings.problem
    assert "model 0 and model 1 have different chat templates" in templates.problem


def test_what_is_not_known_is_no_problem(known: list[Facts]) -> None:
    assert found(Linear(), [Facts(Model), known[0]]) == []
    assert found(Linear(tokenizer="union"), [replace(known[1], tokenizer=None), known[0]]) == []
    assert Linear().foresee({}).kind is Model


METHODS: list[tuple[ModelMerge, int, bool]] = [
    (Linear(), 3, False),
    (Linear(dtype="bfloat16"), 2, False),
    (Ties(tokenizer="base"), 3, True),
    (Passthrough(stack=[{"layers": [0, 2]}, {"model": 1, "layers": [0, 3]}], dtype="float16"), 2, False),
]


@pytest.mark.parametrize(("method", "count", "based"), METHODS)
def test_the_result_is_as_foreseen(
    method: ModelMerge, count: int, based: bool, base: Model, three: list[Model], merge: Callable[..., Merged]
) -> None:
    inputs: dict[str, Any] = {"models": [facts(model) for model in three[:count]]}
    foreseen = method.foresee(inputs | ({"base": [facts(base)]} if based else {}))
    result = facts(merge(method, three[:count], base if based else None).model)
    assert (foreseen.config, foreseen.tensors, foreseen.template) == (result.config, result.tensors, result.template)
    assert foreseen.tokenizer is not None
    assert (foreseen.tokenizer / "tokenizer.json").read_bytes() == (result.tokenizer or Path()).joinpath(
        "tokenizer.json"
    ).read_bytes()


@pytest.mark.parametrize("tokens", ["other tokens", "other rows"])
@pytest.mark.parametrize("tokenizer", ["union", 1, 0])
def test_an_aligned_result_is_as_foreseen(
    tokenizer: str | int, tokens: str, base: Model, merge: Callable[..., Merged], tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    if tokens == "other tokens":
        models = [base, make(folder, vocabulary=300, texts=("Quick foxes jump.", *TEXTS))]
    else:  # as many tokens, and embeddings that were padded
        models = [with_config(base, folder, vocab_size=312), base]
        padded = {n: pad(t, (0, 0, 0, 22)) if t.shape[0] == 290 else t for n, t in weights(base).items()}
        save_file(padded, folder / "model.safetensors", {"format": "pt"})
    method = Linear(tokenizer=tokenizer)
    known = [facts(model) for model in models]
    assert found(method, known) == [] and found(Linear(), known) != []
    foreseen = method.foresee({"models": known})
    result = facts(merge(method, models).model)
    assert (foreseen.config, foreseen.tensors, foreseen.template) == (result.config, result.tensors, result.template)
    assert (foreseen.tokenizer is None) == (tokenizer == "union")
