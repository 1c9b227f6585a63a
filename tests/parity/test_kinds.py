"""What else is recorded and compared: rewards, texts, plain models; and what each form needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tuneforge import (
    Adapter,
    Artifact,
    Facts,
    Gguf,
    Model,
    PreferenceData,
    QuantizedModel,
    RewardAdapter,
    RewardModel,
    Step,
    TextData,
)
from tuneforge.inputs import inputs_of
from tuneforge.kit.dates import without_today
from tuneforge.kit.models import save_adapter, save_model
from tuneforge.kit.rewards import load_reward_model, new_reward_model
from tuneforge.kit.rows import write_rows
from tuneforge_models import fresh
from tuneforge_parity import CompareProbes, RecordProbe
from tuneforge_parity.formats import allowed
from tuneforge_parity.kinds import Probe
from tuneforge_parity.options import Bars
from tuneforge_parity.prompts import choose
from tuneforge_parity.thresholds import bars, format_of

PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"What is {number} and one?"}],
        "chosen": [{"role": "assistant", "content": f"{number + 1}"}],
        "rejected": [{"role": "assistant", "content": f"I think {number}."}],
        "tools": None,
    }
    for number in range(6)
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = fresh.make_tokenizer(["What is this and that? I think one."], 300)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "kv_heads": 1, "context": 256}
    made = fresh.make_model("llama", tokenizer, **sizes, tied=True, dtype=torch.float32, seed=0)
    fresh.save(made, tokenizer, folder)
    return Model(folder, "base")


@pytest.fixture
def pairs(tmp_path: Path) -> PreferenceData:
    (tmp_path / "pairs").mkdir()
    write_rows(tmp_path / "pairs", "train", PAIRS)
    return PreferenceData(tmp_path / "pairs", "pairs")


def carry_out(method: Any, folder: Path, *inputs: Any) -> Path:
    folder.mkdir()
    method.run(*inputs, step=Step(folder.name, folder, folder / "scratch", 1, 1, lambda event: None))
    return folder


def probe(artifact: Artifact, data: Any, folder: Path, **options: Any) -> Probe:
    return Probe(carry_out(RecordProbe(**options), folder, artifact, data), folder.name)


def report(reference: Probe, form: Probe, folder: Path) -> dict[str, Any]:
    out = carry_out(CompareProbes(), folder, reference, form)
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def test_the_scores_of_reward_models(base: Model, pairs: PreferenceData, tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="SEQ_CLS")
    model: Any = get_peft_model(new_reward_model(base, dtype=torch.float32, seed=3), config)
    for name in ("adapter", "merged", "wrong"):
        (tmp_path / name).mkdir()
    save_adapter(model, base.path, tmp_path / "adapter", base)
    adapter = RewardAdapter(tmp_path / "adapter", "adapter", base)
    merged: Any = load_reward_model(adapter, dtype=torch.float32)
    save_model(merged.merge_and_unload(), base.path, tmp_path / "merged", torch.float32)
    wrong: Any = load_reward_model(adapter, dtype=torch.float32).base_model.model  # type: ignore[union-attr]
    wrong = wrong.__class__.from_pretrained(tmp_path / "merged")
    wrong.score.weight.data.neg_()
    save_model(wrong, base.path, tmp_path / "wrong", torch.float32)
    reference = probe(adapter, pairs, tmp_path / "a")
    told = report(reference, probe(RewardModel(tmp_path / "merged", "merged"), pairs, tmp_path / "b"), tmp_path / "c")
    assert told["passed"] and told["scores"]["merged"]["score_error"] < 1e-3
    assert {"top1", "kl_mean"}.isdisjoint(told["scores"]["merged"])
    told = report(reference, probe(RewardModel(tmp_path / "wrong", "wrong"), pairs, tmp_path / "d"), tmp_path / "e")
    assert not told["passed"] and "score_error is" in told["failures"]["wrong"][0]


def test_texts_and_a_model_without_a_template(base: Model, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for file in base.path.iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    plain = Model(folder, "plain")
    (tmp_path / "texts").mkdir()
    rows = [
        {"prompt": None, "completion": "One is this. " * 9},
        {"prompt": "What", "completion": " is"},
    ]
    write_rows(tmp_path / "texts", "train", rows)
    texts = TextData(tmp_path / "texts", "texts")
    known = probe(plain, texts, tmp_path / "a", limit=4)
    record = json.loads((known.path / "probe.json").read_text())
    assert record["rendered"] == [None] * 3 and len(record["rows"]) == 2
    assert report(known, probe(plain, texts, tmp_path / "b", limit=4), tmp_path / "c")["passed"]
    # The same model with a template is another one to talk to.
    told = report(known, probe(base, texts, tmp_path / "d", limit=4), tmp_path / "e")
    assert "another chat template" in told["failures"]["base"][0] and "not none" in told["failures"]["base"][0]


def test_prompts_are_chosen_by_seed_and_content(pairs: PreferenceData) -> None:
    first, again, other = (choose(pairs, 3, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first.source == "train" and all(item.other for item in first.items)
    assert choose(None, 2, 1).source == "built-in"


def test_rows_with_tools_are_passed_over(tmp_path: Path) -> None:
    write_rows(tmp_path, "held_out", [row | {"tools": [{"name": "add"}]} for row in PAIRS[:2]])
    assert choose(PreferenceData(tmp_path, "x"), 3, 1).source == "built-in"


def test_each_form_is_recorded_where_it_can_be() -> None:
    def needs(kind: type[Artifact], **config: Any) -> str:
        return " ".join(RecordProbe().requires({"model": [Facts(kind, config)]}))

    assert "xllamacpp" in needs(Gguf) and "torch" not in needs(Gguf)
    for kind in (Model, Adapter, RewardModel, RewardAdapter):
        assert "torch" in needs(kind) and "xllamacpp" not in needs(kind)
    assert "gptqmodel" in needs(QuantizedModel, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "bitsandbytes" in needs(QuantizedModel, quantization_config={"load_in_4bit": True})
    facts = Facts(QuantizedModel, {"quantization_config": {"quant_method": "hqq"}})
    assert "hqq" in next(iter(RecordProbe().check({"model": [facts]}))).problem
    assert not [*RecordProbe().check({"model": [Facts(Model)]})]
    assert set(inputs_of(RecordProbe)["model"].kinds) == {
        *(Model, Adapter, RewardModel, RewardAdapter, QuantizedModel, Gguf)
    }


def test_what_is_required_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "parity.md").read_text()
    names = ("top1", "kl_mean", "kl_p99", "perplexity_ratio", "answers", "score_error")
    lines = [line for line in page.splitlines() if line.startswith(("| `float", "| `bits")) and line.count("|") > 7]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    told = {name: cells for name, _, *cells in rows}
    for bits in (32, 16, 8, 6, 5, 4, 3, 2):
        asked = bars({"computed": "float32"}, {"computed": "float32", "tokenizer": "", "bits": bits}, {}, Bars())
        wanted = [format(asked[name], "g") if name in asked else "" for name in names]
        assert [format(float(cell), "g") if cell else "" for cell in told[format_of(bits)]] == wanted


def test_templates_are_read_as_of_a_fixed_day() -> None:
    template = "{{ strftime_now('%d %b %Y') }}: {{ messages[0].content }}"
    assert without_today(template) == "{{ '26 Jul 2024' }}: {{ messages[0].content }}"


def test_a_model_of_which_a_part_was_left_in_16_bits_holds_more_bits_than_8() -> None:
    assert allowed(8) > 8.5, "q8_0"
    assert allowed(8) <= 0.75 * 8.5 + 0.25 * 16
