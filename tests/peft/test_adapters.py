"""Several adapters combined by weight."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from peft.utils.merge_utils import magnitude_based_pruning
from safetensors.torch import load_file, save_file

from tests.peft.test_merge import logits, make_base
from tuneforge import Adapter, Facts, Finding, Model, Step, StepError
from tuneforge.kit.adapters import quantized_base
from tuneforge.kit.models import load_model, save_adapter
from tuneforge_peft import register_merge
from tuneforge_peft.adapters import MergeAdapters
from tuneforge_trl.adapters import TYPES
from tuneforge_trl.sft import Sft

LINEAR = ["q_proj", "v_proj", "down_proj"]
Make = Callable[..., Adapter]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_base(tmp_path_factory.mktemp("base"), tied=False, dtype=torch.float32)


@pytest.fixture(scope="module")
def make(base: Model, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """An adapter with random weights, drawn from a seed."""

    def make(seed: int, on: Model | None = None, config: PeftConfig | None = None, **options: Any) -> Adapter:
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp("adapter")
        settings = {"r": 4, "lora_alpha": 6, "target_modules": LINEAR, "init_lora_weights": False, **options}
        model: Any = get_peft_model(load_model(on or base, dtype=torch.float32), config or LoraConfig(**settings))
        save_adapter(model, base.path, folder, on or base)
        return Adapter(folder, str(seed) * 64, on or base)

    return make


def combined(folder: Path, *adapters: Adapter, seed: int = 1, **options: Any) -> tuple[Adapter, Step]:
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    step = Step("combined", folder / "out", folder / "scratch", seed=seed, threads=1, send=lambda event: None)
    MergeAdapters(**options).run(adapters=list(adapters), step=step)
    assert not list(Adapter.missing(step.out))
    return Adapter(step.out, "c" * 64, adapters[0].base), step


def deltas(adapter: Adapter) -> dict[str, torch.Tensor]:
    """What a LoRA adds to each weight, by the files alone."""
    config = json.loads((adapter.path / "adapter_config.json").read_text())
    weights = load_file(adapter.path / "adapter_model.safetensors")
    found = {}
    for name, a in weights.items():
        if ".lora_A." in name:
            layer = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
            pattern = [value for end, value in config["alpha_pattern"].items() if layer.endswith(end)]
            scale = (pattern or [config["lora_alpha"]])[0] / (len(a) ** 0.5 if config["use_rslora"] else len(a))
            found[layer] = scale * weights[name.replace("lora_A", "lora_B")] @ a
    return found


def far(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).abs().max()) for name in found)


@pytest.mark.parametrize("combination", ["cat", "svd"])
def test_a_sum_is_the_sum(combination: str, make: Make, base: Model, tmp_path: Path) -> None:
    """Of adapters of other ranks, of other layers and of another scaling, one of them counted negative."""
    given = [
        make(1, lora_alpha=3),
        make(2, r=6, use_rslora=True),
        make(3, target_modules=["q_proj", "up_proj"], rank_pattern={"up_proj": 2}, alpha_pattern={"up_proj": 5}),
    ]
    weights = [0.7, 0.4, -0.5]
    options = {"combination": combination, "weights": weights} | ({"rank": 14} if combination == "svd" else {})
    result, step = combined(tmp_path, *given, **options)
    wanted: dict[str, torch.Tensor] = {}
    for weight, adapter in zip(weights, given, strict=True):
        for name, delta in deltas(adapter).items():
            wanted[name] = wanted.get(name, torch.zeros_like(delta)) + weight * delta
    assert far(deltas(result), wanted) < 1e-5
    config = json.loads((result.path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (14, 14, False)
    assert config["base_model_name_or_path"] == f"sha256:{base.digest}" and step.base == base.digest
    # And so it computes on its base.
    model: Any = load_model(base, dtype=torch.float32)
    for name, delta in wanted.items():
        model.get_submodule(name).weight.data += delta
    with torch.inference_mode():
        expected = model(torch.arange(40)[None] % 250).logits
    assert float((logits(result) - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_a_smaller_rank_keeps_the_largest_singular_values(make: Make, tmp_path: Path) -> None:
    given = [make(1), make(2)]
    result, _ = combined(tmp_path, *given, combination="svd", rank=3)
    one, two = (deltas(adapter) for adapter in given)
    for name, found in deltas(result).items():
        wanted = 0.5 * one[name] + 0.5 * two[name]
        assert float(torch.linalg.matrix_norm(wanted - found, 2)) == pytest.approx(
            float(torch.linalg.svdvals(wanted)[3]), rel=1e-3
        )


def test_the_matrices_are_combined_as_the_papers_have_it(make: Make, tmp_path: Path) -> None:
    """TIES by hand: trim, elect the sign, mean of those that have it. Of two adapters that count one each."""
    given = [make(1), make(2)]
    result, _ = combined(tmp_path, *given, combination="ties", density=0.4)
    scale = (6 / 4) ** 0.5
    matrices = [load_file(adapter.path / "adapter_model.safetensors") for adapter in (result, *given)]
    for name, found in matrices[0].items():
        trimmed = torch.stack([magnitude_based_pruning(each[name], 0.4) for each in matrices[1:]])
        elected = torch.where(trimmed.sum(0) >= 0, 1.0, -1.0)
        kept = torch.where(trimmed.sign() == elected, trimmed, 0)
        mean = kept.sum(0) / (kept != 0).sum(0).clamp(min=1)
        assert torch.allclose(found, scale * mean, atol=1e-6)


WITH_SVD = ["dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"]
REST = [pytest.param(combination, marks=pytest.mark.whole) for combination in ("linear", "dare_linear", *WITH_SVD)]


@pytest.mark.slow
@pytest.mark.parametrize("combination", ["dare_ties", "magnitude_prune", "ties_svd", *REST])
def test_every_combination_gives_an_adapter_and_twice_the_same(combination: str, make: Make, tmp_path: Path) -> None:
    given = [make(1), make(2)]
    options: dict[str, Any] = {"combination": combination, "weights": [1.0, 0.8]}
    if combination != "linear":
        options["density"] = 0.6
    if "ties" in combination:
        options["sign"] = "frequency"
    first, again = (combined(tmp_path / name, *given, **options)[0] for name in "ab")
    files = [{path.name: path.read_bytes() for path in adapter.path.iterdir()} for adapter in (first, again)]
    assert files[0] == files[1]
    assert files[0].keys() == {path.name for path in given[0].path.iterdir()}
    assert bool(logits(first).isfinite().all())
    assert far(deltas(first), deltas(given[0])) > 1e-3
    if "dare" in combination:
        other, _ = combined(tmp_path / "c", *given, seed=2, **options)
        assert far(deltas(first), deltas(other)) > 1e-3


def test_factors_of_ia3_are_summed(make: Make, base: Model, tmp_path: Path) -> None:
    def ia3() -> IA3Config:
        return IA3Config(
            target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
        )

    given = [make(1, config=ia3()), make(2, config=ia3())]
    for number, adapter in enumerate(given, 1):
        file = adapter.path / "adapter_model.safetensors"
        torch.manual_seed(number)
        save_file({name: torch.rand_like(tensor) for name, tensor in load_file(file).items()}, file)
    result, _ = combined(tmp_path, *given, combination="linear", weights=[0.3, 0.7])
    found, one, two = (load_file(adapter.path / "adapter_model.safetensors") for adapter in (result, *given))
    assert found.keys() == one.keys()
    for name, tensor in found.items():
        assert torch.allclose(tensor, 0.3 * one[name] + 0.7 * two[name])
    assert bool(logits(result).isfinite().all())


def test_weights_that_are_left_out() -> None:
    assert MergeAdapters().shares(4) == [0.25] * 4
    assert MergeAdapters(combination="ties").shares(2) == [1, 1]
    assert MergeAdapters(combination="dare_linear", weights=[2, -1]).shares(2) == [2, -1]


def test_adapters_of_two_models_are_refused_when_it_runs_too(make: Make, base: Model, tmp_path: Path) -> None:
    other = make(2, on=replace(base, digest="e" * 64))
    with pytest.raises(StepError, match="adapter 2 of adapters was trained on another model than the first: eeeeeeee"):
        combined(tmp_path, make(1), other)


def test_a_rank_beyond_the_smallest_weight_is_refused_when_it_runs_too(make: Make, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="rank 40 is more than the smallest changed weight has, 32"):
        combined(tmp_path, make(1), make(2), combination="svd", rank=40)


def test_layers_that_would_be_lost_are_told(make: Make, tmp_path: Path) -> None:
    """PEFT takes the choice of layers from the first."""
    given = [make(1, layers_to_transform=[0]), make(2, layers_to_transform=[1])]
    with pytest.raises(StepError, match="leaves 3 layers out that an adapter changes"):
        combined(tmp_path, *given)


def facts(adapter: Adapter) -> Facts:
    assert adapter.base is not None
    return Adapter.facts(adapter.path, Model.facts(adapter.base.path))


def told(*given: Facts, level: str = "error", **options: Any) -> list[Finding]:
    return [finding for finding in MergeAdapters(**options).check({"adapters": given}) if finding.level == level]


def test_what_can_be_combined_is_not_refused(make: Make) -> None:
    one, two = facts(make(1)), facts(make(2, r=8))
    assert not list(MergeAdapters().check({"adapters": [one, two]}))
    assert not list(MergeAdapters(combination="svd", rank=32).check({"adapters": [one, two]}))


def test_what_cannot_be_combined_is_refused_before(make: Make, base: Model) -> None:
    one = facts(make(1))

    def problem(other: Facts, **options: Any) -> str:
        (finding,) = told(one, other, **options)
        return finding.problem

    def like(**config: Any) -> Facts:
        return replace(one, config={**one.config, **config})

    assert [finding.problem for finding in told(one)] == ["one adapter alone cannot be combined"]
    assert problem(one, weights=[1.0]) == "1 weights for 2 adapters"
    assert "theirs are 4 and 8; cat and svd do not" in problem(like(r=8), combination="linear")
    assert "its ranks differ from layer to layer" in problem(like(rank_pattern={"*": 3}), combination="dare_ties")
    assert "(DoRA), which are no sum" in problem(like(use_dora=True))
    assert "whole layers of the model" in problem(like(modules_to_save=["lm_head"]))
    assert "it has biases" in problem(like(bias="all"))
    assert "PEFT combines LoRA and IA3, and it is OFT" in problem(like(peft_type="OFT"))
    assert "of IA3 there is linear only" in problem(like(peft_type="IA3"))
    assert "two types: LORA and IA3" in problem(like(peft_type="IA3"), combination="linear")
    bases = [replace(one.model, digest=digest * 64) for digest in "be"]
    assert "trained on two models" in told(*(replace(one, base=base) for base in bases))[0].problem
    assert not told(*(replace(one, base=base) for base in (bases[0], one.model, bases[0])))
    foretold = {"peft_type": "LORA", "r": 4, "lora_alpha": 6}
    other = Facts(Adapter, foretold, base=replace(one.model, config={**one.model.config, "hidden_size": 128}))
    assert "trained on two models" in problem(other)
    assert not told(one, replace(other, base=one.base))
    assert problem(one, combination="svd", rank=33) == "rank 33 is more than the smallest changed weight has, 32"


@pytest.mark.parametrize(
    ("combination", "unread"),
    [("cat", ["density", "rank", "sign"]), ("svd", ["density", "sign"]), ("ties", ["rank"]), ("ties_svd", [])],
)
def test_options_that_a_combination_does_not_read_are_refused(combination: Any, unread: list[str], make: Make) -> None:
    one = facts(make(1))
    found = told(one, one, combination=combination, density=0.5, rank=3, sign="total")
    assert [finding.field for finding in found] == unread
    assert all(f"not read by the combination {combination}" in finding.problem for finding in found)


def test_other_templates_are_told(make: Make) -> None:
    one = facts(make(1))
    (finding,) = told(one, replace(one, template="{{ messages }}"), level="warning")
    assert "the result has the first one's" in finding.problem


def test_what_comes_out(make: Make, tmp_path: Path) -> None:
    one, two = facts(make(1)), facts(make(2))
    found = MergeAdapters().foresee({"adapters": [one, two]})
    assert (found.kind, found.base, found.tokenizer, found.template) == (Adapter, one.base, one.tokenizer, one.template)
    assert found.config == {"peft_type": "LORA", "r": 8, "lora_alpha": 8}
    for options, rank in (({"combination": "svd", "rank": 3}, 3), ({"combination": "ties"}, 4)):
        assert MergeAdapters(**options).foresee({"adapters": [one, two]}).config["r"] == rank
    assert MergeAdapters().foresee({}).kind is Adapter
    assert [method.name for method in register_merge()] == ["adapter", "adapters"]


TAKING_PART = {
    "cat": {"lora", "qlora", "rslora", "pissa", "adalora"},
    "ties_svd": {"lora", "qlora", "rslora", "pissa", "adalora"},
    "linear": {"lora", "qlora", "rslora", "pissa", "ia3"},
    "dare_ties": {"lora", "qlora", "rslora", "pissa"},
}


@pytest.mark.parametrize("combination", TAKING_PART)
def test_which_types_take_part_is_known_before_they_are_trained(combination: Any, base: Model) -> None:
    given = Model.facts(base.path)
    found = set()
    for kind in TYPES:
        foreseen = Sft(adapter={"type": kind}).foresee({"model": [given]})
        if not told(foreseen, foreseen, combination=combination):
            found.add(kind)
    assert found == TAKING_PART[combination]


def test_that_a_base_was_rounded_is_handed_on(make: Make, tmp_path: Path) -> None:
    given = [make(1), make(2)]
    file = given[1].path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_mapping": {"quantized_base": "nf4"}}))
    result, _ = combined(tmp_path, *given)
    assert quantized_base(json.loads((result.path / "adapter_config.json").read_text())) == "nf4"
