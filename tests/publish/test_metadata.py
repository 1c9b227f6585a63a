"""What the card says to the Hub and to people: relations, scores, parity, the recipe, and how it is run by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.publish.conftest import entry
from tuneforge import Adapter, ChatData, Gguf, GgufAdapter, Model, QuantizedModel, Report, Step
from tuneforge_publish import Folder, Hub
from tuneforge_publish.bundle import Bundle
from tuneforge_publish.hub.usage import Place, usage
from tuneforge_publish.lineage import Lineage
from tuneforge_publish.metadata import model_index, relation
from tuneforge_publish.parts import Part

COMMIT = "0123456789" * 4


def part(kind: type, digest: str) -> Part:
    return Part("part", ".", kind(Path(), digest), None, None, True)


def lineage(*steps: dict[str, Any], **more: Any) -> Lineage:
    return Lineage({"recipe": "r", "steps": list(steps), **more})


BASE = entry("base", "b" * 64, Model.kind, "load_model: hub", config={"repo": "org/base", "revision": COMMIT})
DATA = entry("rows", "d" * 64, ChatData.kind, "format: chat", config={"repo": "org/rows", "revision": COMMIT})


@pytest.mark.parametrize(
    ("kind", "method", "inputs", "said"),
    [
        (Model, "train: sft", {"model": ["base"], "data": ["rows"]}, "finetune"),
        (Adapter, "train: sft", {"model": ["base"], "data": ["rows"]}, "adapter"),
        (Model, "merge: slerp", {"first": ["base"], "second": ["base"]}, "merge"),
        (QuantizedModel, "quantize: gptq", {"model": ["base"], "data": ["rows"]}, "quantized"),
        (Gguf, "quantize: gguf", {"model": ["base"]}, "quantized"),
        (GgufAdapter, "quantize: gguf_lora", {"adapter": ["base"]}, "adapter"),
    ],
)
def test_what_a_release_is_of_its_base(kind: type, method: str, inputs: dict[str, list[str]], said: str) -> None:
    made = entry("made", "a" * 64, kind.kind, method, inputs)  # type: ignore[attr-defined]
    assert relation([part(kind, "a" * 64)], lineage(BASE, DATA, made)) == said


def test_a_quantized_model_that_was_tuned_is_a_tuned_one() -> None:
    tuned = entry("tuned", "a" * 64, Model.kind, "train: sft", {"model": ["base"]})
    small = entry("small", "c" * 64, Gguf.kind, "quantize: gguf", {"model": ["tuned"]})
    assert relation([part(Gguf, "c" * 64)], lineage(BASE, tuned, small)) == "finetune"
    assert relation([part(Model, "b" * 64)], lineage(BASE, tuned)) is None, "it is the base"


def test_a_merge_of_what_was_tuned_from_one_base_is_tuned() -> None:
    one = entry("one", "1" * 64, Model.kind, "train: sft", {"model": ["base"]})
    two = entry("two", "2" * 64, Model.kind, "train: sft", {"model": ["base"]})
    merged = entry("both", "a" * 64, Model.kind, "merge: ties", {"models": ["one", "two"]})
    assert relation([part(Model, "a" * 64)], lineage(BASE, one, two, merged)) == "finetune"
    other = entry("two", "2" * 64, Model.kind, "load_model: hub", config={"repo": "org/two", "revision": COMMIT})
    assert relation([part(Model, "a" * 64)], lineage(BASE, one, other, merged)) == "merge"
    lora = entry("lora", "3" * 64, Adapter.kind, "load_model: hub", {"model": ["base"]}, config=other["config"])
    whole = entry("whole", "a" * 64, Model.kind, "merge: adapter", {"model": ["lora"]})
    assert relation([part(Model, "a" * 64)], lineage(BASE, lora, whole)) == "finetune", "somebody has tuned it"


@pytest.mark.parametrize("origin", ["registry", "load_model: path"])
def test_a_model_of_unknown_origin_is_not_said_to_be_quantized_from_its_base(origin: str) -> None:
    base = entry("base", "b" * 64, Model.kind, "load_model: path")
    if origin == "registry":
        base = {name: base[name] for name in ("name", "digest", "kind", "base", "summary")}
    small = entry("small", "c" * 64, Gguf.kind, "quantize: gguf", {"model": ["base"]})
    assert relation([part(Gguf, "c" * 64)], lineage(base, small)) is None


def card_of(made: Any, tmp_path: Path, *artifacts: Any, reports: Any = (), **options: Any) -> ModelCard:
    made.publish(tmp_path / "receipt", list(artifacts), list(reports), Folder, to=tmp_path / "out", **options)
    return ModelCard.load(tmp_path / "out" / "README.md")


def test_bases_and_data_of_the_hub_are_named_and_those_of_a_report_are_not(made: Any, tmp_path: Path) -> None:
    steps = [
        BASE | {"digest": made.base.digest},
        DATA | {"summary": {"kept": {"train": 8}, "left_out": {"no answer": 2}}},
        entry("other", "9" * 64, Model.kind, "load_model: hub", config={"repo": "org/other", "revision": COMMIT}),
        entry("sft", made.adapter.digest, Adapter.kind, "train: sft", {"model": ["base"], "data": ["rows"]}),
        entry("scores", made.report.digest, Report.kind, "evaluate: x", {"models": ["other", "sft"], "data": ["rows"]}),
    ]
    told = replace(made, lineage={"recipe": "r", "steps": steps})
    card = card_of(told, tmp_path, made.adapter, reports=[made.report], datasets=["org/more"])
    known = card.data.to_dict()
    assert (known["base_model"], known["base_model_relation"]) == ("org/base", "adapter")
    assert known["datasets"] == ["org/more", "org/rows"]
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.dataset_revision) == ("org/rows", COMMIT)


def test_data_that_quantizing_was_calibrated_with_is_not_learnt(made: Any, tmp_path: Path) -> None:
    calibration = DATA | {"name": "more", "config": {"repo": "org/calibration", "revision": COMMIT}}
    data = [one | {"summary": {"kept": {"train": 8}, "left_out": {}}} for one in (DATA, calibration)]
    tuned = entry("tuned", made.base.digest, Model.kind, "train: sft", {"model": ["base"], "data": ["rows"]})
    small = entry("small", made.gguf.digest, Gguf.kind, "quantize: gguf", {"model": ["tuned"], "data": ["more"]})
    told = replace(made, lineage={"recipe": "r", "steps": [BASE, *data, tuned, small]})
    assert card_of(told, tmp_path, made.gguf).data.datasets == ["org/rows"]


def test_what_a_person_says_stands_and_what_nobody_said_does_not(made: Any, tmp_path: Path) -> None:
    options = {
        "license": "other",
        "license_name": "lamps-1.0",
        "license_link": "https://example.org/licence",
        "base_model": "org/tiny",
        "base_model_relation": "merge",
        "intended_use": "For lamps.\n\nNot for chairs.",
    }
    card = card_of(made, tmp_path, made.base, **options)
    known = card.data.to_dict()
    assert {name: known[name] for name in options if name != "intended_use"} | {"intended_use": ""} == {
        **options,
        "intended_use": "",
    }
    assert "## Intended use\n\nFor lamps.\n\nNot for chairs.\n" in card.text
    planted = card_of(made, tmp_path / "planted", made.base, intended_use=f"Ask with Bearer hf_{'a1B2' * 8}.")
    assert "a1B2" not in planted.text and "Ask with" in planted.text
    plain = card_of(made, tmp_path / "plain", made.base)
    assert "Intended use" not in plain.text and "base_model_relation" not in plain.data.to_dict()


def test_a_report_on_forms_is_parity_and_no_result_of_the_hub(made: Any, tmp_path: Path) -> None:
    parity = Report(tmp_path / "parity", "f" * 64)
    scores = {made.adapter.digest: {"kl_mean": 1.5e-05, "template": 1.0}}
    more = {"reference": "bfloat16", "format": "Q8_0", "positions": 128, "required": {"kl_mean": 0.01}}
    made.write_report(parity, passed=True, scores=scores, **more)
    content = json.loads((parity.path / "report.json").read_text())
    del content["rows"], content["split"]
    (parity.path / "report.json").write_text(json.dumps(content))
    card = card_of(made, tmp_path, made.adapter, reports=[parity, made.report])
    assert card.text.index("## Scores") < card.text.index("## Parity"), "whatever the order"
    assert ": Q8_0 against bfloat16, at 128 positions:\n\n|  | kl mean | template |" in card.text
    assert "| required | 0.01 | - |" in card.text
    assert [result.metric_type for result in card.data.eval_results] == ["exact_match"]


def test_scores_of_another_form_say_so_and_such_as_are_no_numbers_are_left_out(made: Any, tmp_path: Path) -> None:
    report = Report(tmp_path / "scores", "e" * 64)
    made.write_report(report, passed=True, scores={made.adapter.digest: {"loss": 0.5, "style": "bare", "rate": None}})
    told = Lineage(made.lineage)
    (index,) = model_index("Small", [part(Gguf, made.gguf.digest)], told, [report])
    assert index["results"][0]["metrics"] == [{"type": "loss", "value": 0.5, "name": "loss of sft"}]
    assert model_index("Base", [part(Model, made.base.digest)], told, [report]) == []


def test_the_recipe_makes_it_again(made: Any, tmp_path: Path) -> None:
    text = "name: orders  # ```\nsteps: {}\n"
    told = replace(made, lineage=made.lineage | {"text": text, "settings": ["seed=2", "vars.who=a b"]})
    card = card_of(told, tmp_path, made.base)
    assert f"````yaml\n{text}````" in card.text, "a fence that the recipe does not end"
    assert "tuneforge run orders.yaml --set seed=2 --set 'vars.who=a b'" in card.text
    assert json.loads((tmp_path / "out" / "lineage.json").read_text())["text"] == text


def run_by_name(made: Any, tmp_path: Path, *artifacts: Any, branch: str | None = None) -> str:
    step = Step("release", tmp_path, tmp_path, 0, 1, lambda event: None, made.lineage)
    return "\n\n".join(usage(Bundle(Hub(repo="org/orders"), artifacts, [], step), Place("org/orders", branch)))


def test_forms_in_folders_are_run_by_the_repositorys_name(made: Any, tmp_path: Path) -> None:
    told = run_by_name(made, tmp_path, made.adapter, made.gguf)
    assert 'AutoModelForCausalLM.from_pretrained("org/orders", subfolder="base", dtype="auto")' in told
    assert 'PeftModel.from_pretrained(model, "org/orders", subfolder="sft")' in told
    assert "hf download org/orders --local-dir orders-sft\nvllm serve orders-sft/base --enable-lora" in told
    assert "--lora-modules sft=orders-sft/sft" in told
    assert "llama-server -hf org/orders --hf-file small/model-q8_0.gguf --jinja" in told
    assert "echo 'FROM ./small/model-q8_0.gguf' > Modelfile\nollama create orders-small" in told


def test_what_is_on_another_branch_is_run_from_there(made: Any, tmp_path: Path) -> None:
    told = run_by_name(made, tmp_path, made.base, branch="next")
    assert 'AutoTokenizer.from_pretrained("org/orders", revision="next")' in told
    assert 'AutoModelForCausalLM.from_pretrained("org/orders", revision="next", dtype="auto")' in told
    assert "vllm serve org/orders --revision next " in told
    adapter = run_by_name(made, tmp_path, made.adapter, branch="next")
    assert 'PeftModel.from_pretrained(model, "org/orders", revision="next")' in adapter
    assert "hf download org/orders --revision next --local-dir orders\n" in adapter
    gguf = run_by_name(made, tmp_path, made.gguf, branch="next")
    assert "hf download org/orders model-q8_0.gguf --revision next --local-dir .\n" in gguf
    assert "llama-cli -m model-q8_0.gguf" in gguf and "-hf " not in gguf and "hf.co" not in gguf


def test_one_form_at_the_top_is_run_by_the_repositorys_name(
    made: Any, quantized: QuantizedModel, tmp_path: Path
) -> None:
    assert "ollama run hf.co/org/orders:Q8_0" in run_by_name(made, tmp_path, made.gguf)
    model = run_by_name(made, tmp_path, made.base)
    assert "vllm serve org/orders --served-model-name orders\n" in model and "subfolder" not in model
    assert "It does not serve this: " in run_by_name(made, tmp_path, quantized), "a stand-in without packed weights"


def test_the_metadata_is_plain_yaml(made: Any, tmp_path: Path) -> None:
    card_of(made, tmp_path, made.adapter, reports=[made.report], title="A: b # c", language=["no"])
    text = (tmp_path / "out" / "README.md").read_text()
    known = yaml.safe_load(text.split("---\n")[1])
    assert known["language"] == ["no"] and known["model-index"][0]["name"] == "A: b # c"
