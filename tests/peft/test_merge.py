import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from tuneforge import Adapter, Facts, Model, RewardAdapter, RewardModel, Step, StepError
from tuneforge.kit import merging, models
from tuneforge.kit.models import load_model, save_adapter
from tuneforge.kit.rewards import load_reward_model, new_reward_model, score
from tuneforge_models import fresh
from tuneforge_peft import register_merge
from tuneforge_peft.adapter import MergeAdapter


def make_base(folder: Path, *, tied: bool, dtype: torch.dtype) -> Model:
    tokenizer = fresh.make_tokenizer(["Merging adds the adapter to the model."], 300)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "layers": 2, "heads": 4, "kv_heads": 2, "context": 256}
    fresh.save(fresh.make_model("llama", tokenizer, **sizes, tied=tied, dtype=dtype, seed=1), tokenizer, folder)
    return Model(folder, "b" * 64)


def make_adapter(folder: Path, base: Model) -> Adapter:
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=2, lora_dropout=0.5, target_modules="all-linear", init_lora_weights=False)
    model: Any = get_peft_model(load_model(base, dtype=torch.float32), config)
    save_adapter(model, base.path, folder, base)
    return Adapter(folder, "a" * 64, base)


@pytest.fixture(params=[(False, torch.bfloat16), (True, torch.float32)], ids=["untied-bf16", "tied-f32"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Adapter:
    for name in ("base", "adapter"):
        (tmp_path / name).mkdir()
    tied, dtype = request.param
    return make_adapter(tmp_path / "adapter", make_base(tmp_path / "base", tied=tied, dtype=dtype))


@pytest.fixture
def step(tmp_path: Path) -> Step:
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    return Step("merged", tmp_path / "out", tmp_path / "scratch", seed=1, threads=1, send=lambda event: None)


def logits(artifact: Model | Adapter) -> torch.Tensor:
    ids = torch.arange(40)[None] % 250
    with torch.inference_mode():
        found: torch.Tensor = load_model(artifact, dtype=torch.float32)(ids).logits
    return found


def test_the_merged_model_computes_what_the_adapter_does(adapter: Adapter, step: Step) -> None:
    assert adapter.base is not None
    MergeAdapter().run(model=adapter, step=step)
    merged = Model(step.out, "c" * 64)
    assert not list(Model.missing(merged.path))
    rounded = load_file(adapter.base.path / "model.safetensors")["model.norm.weight"].dtype is torch.bfloat16
    wanted, found = logits(adapter), logits(merged)
    assert float((wanted - logits(Model(adapter.base.path, ""))).abs().max()) > 0.1
    assert float((wanted - found).abs().max()) < (0.05 if rounded else 1e-5)
    assert step.figures["merge_error"] < 1e-5
    assert (step.figures["rounding_error"] > step.figures["merge_error"]) == rounded
    assert step.figures["stored_as"] == ("bfloat16" if rounded else "float32")
    assert step.base is None


def test_it_is_stored_as_its_base_is(adapter: Adapter, step: Step) -> None:
    assert adapter.base is not None
    MergeAdapter().run(model=adapter, step=step)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (step.out, adapter.base.path))
    assert {name: (weight.dtype, weight.shape) for name, weight in ours.items()} == {
        name: (weight.dtype, weight.shape) for name, weight in theirs.items()
    }
    assert {path.name for path in step.out.iterdir()} == {path.name for path in adapter.base.path.iterdir()}
    for name in ("config.json", "generation_config.json"):
        assert json.loads((step.out / name).read_text()) == json.loads((adapter.base.path / name).read_text())


def test_a_merge_that_computes_something_else_fails(
    adapter: Adapter, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful:
        """A merge that leaves the adapter out."""

        def __init__(self, model: Any) -> None:
            self.model = model

        device = torch.device("cpu")

        def __call__(self, **inputs: torch.Tensor) -> Any:
            return self.model(**inputs)

        def merge_and_unload(self, safe_merge: bool) -> Any:
            return self.model.unload()

    load = merging.load_model
    monkeypatch.setattr(merging, "load_model", lambda artifact, dtype, on: Forgetful(load(artifact, dtype=dtype)))
    with pytest.raises(StepError, match="the merged model's logits differ from the adapter's by"):
        MergeAdapter().run(model=adapter, step=step)
    assert not any(step.out.iterdir())


def test_weights_beyond_the_range_of_the_stored_type_fail(step: Step, tmp_path: Path) -> None:
    for name in ("base", "adapter"):
        (tmp_path / name).mkdir()
    adapter = make_adapter(tmp_path / "adapter", make_base(tmp_path / "base", tied=False, dtype=torch.float16))
    file = adapter.path / "adapter_model.safetensors"
    save_file({name: weight * 1e4 for name, weight in load_file(file).items()}, file)
    with pytest.raises(StepError, match=r"stored as torch.float16, .* differ from the adapter's by inf"):
        MergeAdapter().run(model=adapter, step=step)


def test_a_template_that_does_not_tell_turns_apart_is_no_obstacle(adapter: Adapter, step: Step) -> None:
    """Such as ends the prompt for a generation with a thought that a finished turn does not have."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    (adapter.path / "chat_template.jinja").write_text(template)
    MergeAdapter().run(model=adapter, step=step)
    assert step.figures["merge_error"] < 1e-5


def test_it_is_merged_on_the_cpu(adapter: Adapter, step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "device", lambda: torch.device("meta"))
    MergeAdapter().run(model=adapter, step=step)
    assert step.figures["merge_error"] < 1e-5


def test_a_quantized_base_is_refused() -> None:
    base = Facts(Model, {"quantization_config": {"quant_method": "bitsandbytes"}})
    (finding,) = MergeAdapter().check({"model": [Facts(Adapter, base=base)]})
    assert finding.level == "error"
    assert finding.problem == (
        "the adapter sits on a quantized model, into whose rounded weights it cannot be merged exactly"
    )
    assert "full-precision version" in finding.fix
    assert not list(MergeAdapter().check({"model": [Facts(Adapter, base=replace(base, config={}))]}))
    assert not list(MergeAdapter().check({}))


def test_a_quantized_base_that_no_plan_knew_of_is_refused_too(adapter: Adapter, step: Step) -> None:
    assert adapter.base is not None
    file = adapter.base.path / "config.json"
    config = json.loads(file.read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}}
    file.write_text(json.dumps(config))
    with pytest.raises(StepError, match="sits on a quantized model"):
        MergeAdapter().run(model=adapter, step=step)
    assert not any(step.out.iterdir())


def test_what_comes_out(adapter: Adapter) -> None:
    assert adapter.base is not None
    base = Model.facts(adapter.base.path)
    facts = MergeAdapter().foresee({"model": [Adapter.facts(adapter.path, base)]})
    assert (facts.kind, facts.base, facts.tokenizer) == (Model, None, adapter.path)
    assert (facts.config, facts.tensors, facts.template) == (base.config, base.tensors, base.template)
    assert MergeAdapter().foresee({}).kind is Model


def test_registered() -> None:
    assert [method.name for method in register_merge()] == ["adapter", "adapters"]


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=["bf16", "f32"])
def reward(request: pytest.FixtureRequest, tmp_path: Path) -> RewardAdapter:
    for name in ("base", "adapter"):
        (tmp_path / name).mkdir()
    base = make_base(tmp_path / "base", tied=True, dtype=request.param)
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="SEQ_CLS")
    model: Any = get_peft_model(new_reward_model(base, dtype=torch.float32, seed=3), config)
    torch.nn.init.normal_(model.base_model.model.score.modules_to_save["default"].weight)
    save_adapter(model, base.path, tmp_path / "adapter", base)
    return RewardAdapter(tmp_path / "adapter", "a" * 64, base)


def test_a_reward_adapter_becomes_a_reward_model_with_its_scores(reward: RewardAdapter, step: Step) -> None:
    MergeAdapter().run(model=reward, step=step)
    merged = RewardModel(step.out, "c" * 64)
    assert not list(RewardModel.missing(merged.path))
    rows = [list(range(3, 3 + length)) for length in (5, 17, 30)]
    wanted, found = (score(load_reward_model(one, dtype=torch.float32), rows) for one in (reward, merged))
    exact = step.figures["stored_as"] == "float32"
    assert found == pytest.approx(wanted, abs=1e-4 if exact else 0.1 * step.figures["largest_score"])
    assert step.figures["merge_error"] < 1e-4 and (step.figures["rounding_error"] < 1e-4) == exact
    assert step.base is None
    config = json.loads((merged.path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    names = load_file(merged.path / "model.safetensors")
    assert "score.weight" in names and not any("lora" in name or "modules_to_save" in name for name in names)


def test_a_merge_of_other_scores_fails(reward: RewardAdapter, step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    load = merging.load_reward_model

    def with_another_head(artifact: Any, **options: Any) -> Any:
        model = load(artifact, **options)
        if isinstance(artifact, RewardModel):
            model.score.weight.data *= 2
        return model

    monkeypatch.setattr(merging, "load_reward_model", with_another_head)
    with pytest.raises(StepError, match="the merged model's scores differ from the adapter's"):
        MergeAdapter().run(model=reward, step=step)


def test_what_comes_out_of_a_reward_adapter(reward: RewardAdapter) -> None:
    assert reward.base is not None
    facts = RewardAdapter.facts(reward.path, Model.facts(reward.base.path))
    assert MergeAdapter().foresee({"model": [facts]}).kind is RewardModel
    assert MergeAdapter().writes({"model": [RewardAdapter]}) is RewardModel
    assert MergeAdapter().writes({"model": [Adapter]}) is Model
