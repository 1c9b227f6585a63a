"""A LoRA taken out of a fine-tuned model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.mergekit.conftest import make, with_head
from tuneforge import Adapter, Facts, Model, Step, StepError
from tuneforge.artifacts import Tensor
from tuneforge.kit.models import load_model
from tuneforge_mergekit.extract import ExtractLora
from tuneforge_models import fresh
from tuneforge_peft.adapter import MergeAdapter

Change = Callable[[str, torch.Tensor], torch.Tensor]
PROBE = torch.arange(40)[None] * 7 % 250


def make_base(folder: Path, *, tied: bool, dtype: torch.dtype = torch.float32) -> Model:
    tokenizer = fresh.make_tokenizer(["What a model has learnt can be taken out of it again."], 300)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "layers": 2, "heads": 4, "kv_heads": 2, "context": 256}
    fresh.save(fresh.make_model("llama", tokenizer, **sizes, tied=tied, dtype=dtype, seed=1), tokenizer, folder)
    return Model(folder, "b" * 64)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_base(tmp_path_factory.mktemp("base"), tied=request.param)


def tuned(base: Model, folder: Path, change: Change) -> Model:
    """The base with its weights changed."""
    folder.mkdir()
    for path in base.path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    torch.manual_seed(1)
    weights = load_file(base.path / "model.safetensors")
    changed = {name: change(name, tensor).to(tensor.dtype) for name, tensor in weights.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return Model(folder, "d" * 64)


def everything(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor + 0.1 * torch.randn_like(tensor)


def linear(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return everything(name, tensor) if ".layers.0." in name and "_proj" in name else tensor


def step(folder: Path) -> Step:
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    return Step("taken", folder / "out", folder / "scratch", seed=1, threads=1, send=lambda event: None)


def extracted(folder: Path, model: Model, base: Model, **options: Any) -> tuple[Adapter, Step]:
    doing = step(folder)
    ExtractLora(**options).run(model=model, base=base, step=doing)
    assert not list(Adapter.missing(doing.out)) and doing.base == base.digest
    assert not any(doing.scratch.iterdir())
    return Adapter(doing.out, "a" * 64, base), doing


def logits(artifact: Model | Adapter) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = load_model(artifact, dtype=torch.float32)(PROBE).logits
    return found


def apart(one: Model | Adapter, other: Model | Adapter) -> float:
    wanted = logits(other)
    return float((logits(one) - wanted).abs().max() / wanted.abs().max())


def merged(folder: Path, adapter: Adapter) -> Model:
    doing = step(folder)
    MergeAdapter().run(model=adapter, step=doing)
    return Model(doing.out, "e" * 64)


@pytest.mark.slow
def test_at_full_rank_its_merge_is_the_model_again(base: Model, tmp_path: Path) -> None:
    """Though every weight changed: norms and embeddings, which no LoRA holds, are kept whole."""
    model = tuned(base, tmp_path / "model", everything)
    assert apart(model, base) > 0.1
    adapter, doing = extracted(tmp_path / "taken", model, base, rank=96)
    assert apart(adapter, model) < 1e-4
    assert apart(merged(tmp_path / "merged", adapter), model) < 1e-4
    assert doing.figures["kept"] == pytest.approx(1, abs=1e-5)
    config = json.loads((adapter.path / "adapter_config.json").read_text())
    assert (config["r"], config["rank_pattern"], config["alpha_pattern"]) == (64, {}, {})
    assert config["base_model_name_or_path"] == f"sha256:{base.digest}"
    # Readers that know of one rank only find it in every matrix.
    weights = load_file(adapter.path / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in weights.items() if ".lora_A." in name} == {64}


def test_at_a_low_rank_the_rest_is_what_the_singular_values_tell(base: Model, tmp_path: Path) -> None:
    model = tuned(base, tmp_path / "model", linear)
    adapter, doing = extracted(tmp_path / "taken", model, base, rank=5)
    again = load_file(merged(tmp_path / "merged", adapter).path / "model.safetensors")
    before, after = (load_file(folder.path / "model.safetensors") for folder in (base, model))
    kept = total = 0.0
    for name, tensor in after.items():
        if linear(name, tensor) is tensor:
            assert torch.equal(again[name], before[name])
            continue
        values = torch.linalg.svdvals(tensor - before[name])
        assert float(torch.linalg.matrix_norm(again[name] - tensor, 2)) == pytest.approx(float(values[5]), rel=1e-3)
        kept, total = kept + float(values[:5].square().sum()), total + float(values.square().sum())
    assert doing.figures["kept"] == pytest.approx(kept / total, rel=1e-4) and doing.figures["kept"] < 0.5
    assert doing.figures["layers"] == 7 and doing.figures["whole_layers"] == 0
    config = json.loads((adapter.path / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None and all(".layers.0." in name for name in config["target_modules"])


def test_what_was_left_as_in_the_base(base: Model, tmp_path: Path) -> None:
    model = tuned(base, tmp_path / "model", everything)
    adapter, doing = extracted(
        tmp_path / "taken",
        model,
        base,
        rank=4,
        embeddings="leave",
        whole=False,
        include=["self_attn", "norm"],
        exclude=[r"layers\.1\..*o_proj"],
    )
    weights = load_file(adapter.path / "adapter_model.safetensors")
    assert all(".lora_" in name for name in weights) and len(weights) == 2 * 7
    assert doing.figures["whole_layers"] == 0 and doing.figures["left_layers"] > 5
    assert bool(logits(adapter).isfinite().all())


@pytest.mark.slow
def test_embeddings_of_a_low_rank(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tied=False)
    model = tuned(base, tmp_path / "model", everything)
    adapter, doing = extracted(tmp_path / "taken", model, base, rank=64, embeddings="lora")
    assert apart(adapter, model) < 1e-4
    assert apart(merged(tmp_path / "merged", adapter), model) < 1e-4
    weights = load_file(adapter.path / "adapter_model.safetensors")
    assert "base_model.model.model.embed_tokens.lora_embedding_A" in weights
    assert doing.figures["whole_layers"] == 5  # the norms


def test_small_singular_values_are_left_out(base: Model, tmp_path: Path) -> None:
    """Of a model whose change has rank 2, and hardly any in one layer."""

    def little(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if "q_proj" not in name:
            return tensor
        size = 1e-6 if ".1." in name else 1.0
        return tensor + size * torch.randn(tensor.shape[0], 2) @ torch.randn(2, tensor.shape[1])

    model = tuned(base, tmp_path / "model", little)
    adapter, doing = extracted(tmp_path / "taken", model, base, rank=16, epsilon=1e-2)
    assert json.loads((adapter.path / "adapter_config.json").read_text())["r"] == 2
    assert doing.figures["layers"] == 1
    assert apart(adapter, model) < 1e-4
    with pytest.raises(StepError, match="no singular value is above epsilon"):
        extracted(tmp_path / "none", model, base, epsilon=1e6)


def test_of_bfloat16_models_the_difference_is_exact(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tied=True, dtype=torch.bfloat16)
    model = tuned(base, tmp_path / "model", everything)
    adapter, _ = extracted(tmp_path / "taken", model, base, rank=96)
    assert apart(adapter, model) < 1e-4


def test_twice_the_same_bytes(base: Model, tmp_path: Path) -> None:
    model = tuned(base, tmp_path / "model", everything)
    one, two = (extracted(tmp_path / name, model, base, rank=3)[0].path for name in "ab")
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (one, two)]
    assert files[0] == files[1]
    assert files[0].keys() >= {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    assert str(tmp_path).encode() not in b"".join(files[0].values())


def test_a_head_that_is_stored_twice_is_the_embedding(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tied=True)
    model = tuned(base, tmp_path / "model", everything)
    twice, both = with_head(model, tmp_path / "twice"), with_head(base, tmp_path / "base-twice")
    for number, (one, on) in enumerate([(twice, base), (model, both), (twice, both)]):
        facts = [Model.facts(folder.path) for folder in (one, on)]
        assert not list(ExtractLora().check({"model": facts[:1], "base": facts[1:]}))
        adapter, _ = extracted(tmp_path / f"taken-{number}", one, on, rank=96)
        assert apart(adapter, model) < 1e-4


def test_models_of_other_tensors_are_refused_before_anything_is_compared(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tied=False)
    less = tuned(base, tmp_path / "less", linear)
    file = less.path / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if "head" not in name}, file)
    with pytest.raises(StepError, match=r"differ in 1 tensor: lm_head\.weight \(in one of them only\)"):
        extracted(tmp_path / "taken", base, less)


def test_paths_that_mean_something_to_mergekit(base: Model, tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    model = tuned(base, tmp_path / "org" / "a@b+c", linear)
    adapter, _ = extracted(tmp_path / "taken", model, base, rank=96)
    assert apart(adapter, model) < 1e-4


def biased(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor + 1 if name.endswith(".bias") else tensor


def test_of_layers_that_are_not_kept_whole_a_bias_is_left(tmp_path: Path) -> None:
    base = make(tmp_path / "base", architecture="qwen2")
    with pytest.raises(StepError, match="no linear layer of the model differs from its base"):
        extracted(tmp_path / "none", tuned(base, tmp_path / "biases", biased), base, whole=False)

    def first(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return biased(name, linear(name, tensor))

    _, doing = extracted(tmp_path / "taken", tuned(base, tmp_path / "both", first), base, whole=False)
    # Biases of three layers, and those of the first one's that have their weights taken.
    assert (doing.figures["layers"], doing.figures["left_layers"]) == (7, 9)


def test_a_model_that_is_its_base_is_refused(base: Model, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="no linear layer of the model differs from its base"):
        extracted(tmp_path / "taken", tuned(base, tmp_path / "model", lambda name, tensor: tensor), base)


def test_what_is_refused_before() -> None:
    config = {"model_type": "llama", "tie_word_embeddings": True}
    base = Facts(Model, config, {"a": Tensor("F32", (4, 4)), "b": Tensor("F32", (4,))})

    def problems(model: Facts, on: Facts = base, **options: Any) -> list[str]:
        found = ExtractLora(**options).check({"model": [model], "base": [on]})
        return [finding.problem for finding in found if finding.level == "error"]

    assert not problems(base)
    assert not problems(Facts(Model))
    mistral = replace(base, config={"model_type": "mistral"})
    assert problems(mistral) == ["the base is a llama, and the model a mistral"]
    wider = replace(base, tensors=base.tensors | {"a": Tensor("F32", (6, 4))})
    assert problems(wider) == ["the base and the model differ in 1 tensor: a ([4, 4] and [6, 4])"]
    longer = replace(base, tensors=base.tensors | {"c": Tensor("F32", (4,))})
    assert problems(longer) == ["the base and the model differ in 1 tensor: c (in one of them only)"]
    (tied,) = problems(base, embeddings="lora")
    assert "added" in tied or "twice" in tied
    gpt2 = replace(base, config={"model_type": "gpt2"})
    assert problems(gpt2, gpt2) == ["the layers of a gpt2 are not taken apart by mergekit"]
    with pytest.raises(ValueError, match="no regular expression"):
        ExtractLora(include=["("])


def test_what_comes_out() -> None:
    base = Facts(Model, {"model_type": "llama"})
    model = replace(base, tokenizer=Path("there"), template="{{ messages }}")
    found = ExtractLora(rank=7).foresee({"model": [model], "base": [base]})
    assert (found.kind, found.base, found.tokenizer, found.template) == (Adapter, base, Path("there"), model.template)
    assert found.config == {"peft_type": "LORA", "r": 7, "lora_alpha": 7}
    assert ExtractLora().foresee({}).kind is Adapter
