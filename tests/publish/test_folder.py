"""The method `publish: folder`: what is released, what is refused, and how long the receipt holds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from tests.gguf.small_models import rewrite
from tuneforge import Gguf, GgufAdapter, Model, QuantizedModel, Release, Report, StepError
from tuneforge.artifacts import read_json
from tuneforge.inputs import inputs_of
from tuneforge_publish import Folder, LlamaCpp, Ollama, Tgi, Vllm, extend_plan


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_inputs_are_artifacts_and_perhaps_reports() -> None:
    inputs = inputs_of(Folder)
    assert {name: str(given) for name, given in inputs.items()} == {
        "artifacts": "list of model or adapter or quantized-model or gguf or gguf-adapter",
        "reports": "list of report",
    }
    assert inputs["artifacts"].required and not inputs["reports"].required


def test_a_single_model_lies_at_the_top(made: Any, tmp_path: Path) -> None:
    to = tmp_path / "out"
    made.publish(tmp_path / "receipt", [made.base], to=to)
    assert files(to) == files(made.base.path) | {"README.md", "lineage.json", "SHA256SUMS"}
    assert json.loads((to / "lineage.json").read_text()) == made.lineage


def test_several_lie_in_folders_of_their_own_and_an_adapter_brings_its_base(made: Any, tmp_path: Path) -> None:
    to = tmp_path / "out"
    made.publish(tmp_path / "receipt", [made.adapter, made.gguf], to=to)
    assert {path.name for path in to.iterdir() if path.is_dir()} == {"base", "sft", "small"}
    assert files(to / "base") == files(made.base.path)
    assert read_json(to / "sft" / "adapter_config.json")["base_model_name_or_path"] == "base"


def test_a_base_on_the_hub_is_named_with_its_commit_and_not_released(made: Any, tmp_path: Path) -> None:
    commit = "0123456789" * 4
    hub = made.entry(
        "base", made.base.digest, Model.kind, "load_model: hub", config={"repo": "org/tiny", "revision": commit}
    )
    lineage = made.lineage | {"steps": [hub, *made.lineage["steps"][1:]]}
    replace(made, lineage=lineage).publish(tmp_path / "receipt", [made.adapter], to=tmp_path / "out")
    config = read_json(tmp_path / "out" / "adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/tiny", commit)
    assert not (tmp_path / "out" / "base").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert f'from_pretrained("org/tiny", revision="{commit}", dtype="auto")' in card
    assert "base_model: org/tiny\nbase_model_relation: adapter\n" in card


def test_two_artifacts_that_are_called_alike_are_kept_apart(made: Any, tmp_path: Path) -> None:
    twins = [Model(made.base.path, digest) for digest in ("1" * 64, "2" * 64)]
    steps = [
        made.entry(name, twin.digest, Model.kind, "merge: slerp")
        for name, twin in zip(("registry:bot@production", "registry:bot-production"), twins, strict=True)
    ]
    replace(made, lineage={"recipe": "r", "steps": steps}).publish(tmp_path / "receipt", twins, to=tmp_path / "out")
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {"bot-production", "bot-production-222222222222"}


def test_a_models_own_readme_makes_room_for_the_card(made: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    made.publish(tmp_path / "receipt", [made.base], to=first)
    made.publish(tmp_path / "again", [Model(first, "f" * 64)], to=second, title="Another")
    assert files(first) == files(second)
    assert "# Another" in (second / "README.md").read_text()


def test_two_places_one_receipt(made: Any, tmp_path: Path) -> None:
    artifacts = [made.adapter, made.base, made.gguf]
    one = made.publish(tmp_path / "1", artifacts, [made.report], to=tmp_path / "one")
    two = made.publish(tmp_path / "2", artifacts, [made.report], to=tmp_path / "two" / "deeper")
    assert files(one.path) == {"receipt.json"}
    receipt = (one.path / "receipt.json").read_text()
    assert receipt == (two.path / "receipt.json").read_text() and str(tmp_path) not in receipt
    for path in (tmp_path / "one").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()


def test_the_receipt_holds_where_the_release_is(made: Any, tmp_path: Path) -> None:
    receipt = made.publish(tmp_path / "receipt", [made.base], to=tmp_path / "out")
    method = Folder(to=tmp_path / "out")
    assert method.holds(receipt)
    assert not Folder(to=tmp_path / "elsewhere").holds(receipt)
    weights = tmp_path / "out" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert not method.holds(receipt)
    (finding,) = method.check({})
    assert finding.problem == f"{weights} was changed since it was released" and finding.fix.startswith("Move it away")
    weights.unlink()
    (tmp_path / "out" / "README.md").unlink()
    assert list(method.check({})) == [], "a release with files missing may be replaced"
    assert method.holds(made.publish(tmp_path / "again", [made.base], to=tmp_path / "out"))


def failing(made: Any, folder: Path, subject: str, **more: Any) -> Report:
    report = Report(folder, "e" * 64)
    made.write_report(report, passed=False, scores={made.base.digest: {}, made.adapter.digest: {}}, **more)
    return report


def test_a_subject_that_failed_is_refused_with_what_failed(made: Any, tmp_path: Path) -> None:
    failures = {made.adapter.digest: ["exact_match is 0.4, at least 0.8 is required"]}
    report = failing(made, tmp_path / "report", made.adapter.digest, failures=failures)
    for artifact in (made.adapter, made.gguf):  # the GGUF file is the adapter's model in another form
        with pytest.raises(StepError, match=r"sft failed scores: exact_match is 0\.4, at least 0\.8 is required"):
            made.publish(tmp_path / artifact.kind, [artifact], [report], to=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made.publish(tmp_path / "base", [made.base], [report], to=tmp_path / "out")  # which did not fail


def test_without_a_word_on_which_failed_all_subjects_did(made: Any, tmp_path: Path) -> None:
    report = failing(made, tmp_path / "report", made.base.digest)
    with pytest.raises(StepError, match="base failed scores"):
        made.publish(tmp_path / "receipt", [made.base], [report], to=tmp_path / "out")
    stranger = Model(made.base.path, "9" * 64)
    made.publish(tmp_path / "other", [stranger], [report], to=tmp_path / "out")


def test_a_model_tuned_from_one_that_failed_is_another_model(made: Any, tmp_path: Path) -> None:
    report = failing(made, tmp_path / "report", made.base.digest, failures={made.base.digest: ["too bad"]})
    made.publish(tmp_path / "receipt", [made.gguf], [report], to=tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"to": "x", "license": "Apache 2.0"},
        {"to": "x", "language": ["English"]},
        {"to": "x", "base_model": "a/b/c"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Folder(**options)


def test_a_target_that_is_taken_is_found_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (finding,) = Folder(to=tmp_path).check({})
    assert finding.level == "error" and finding.field == "to" and "thesis.txt" in finding.problem


@pytest.mark.parametrize("other", [Folder, LlamaCpp, Ollama, Vllm, Tgi])
def test_two_releases_into_one_folder_are_found(tmp_path: Path, other: type[Folder]) -> None:
    def step(name: str, to: Path) -> Any:
        method = Folder if name == "a" else other
        return SimpleNamespace(name=name, method=method(to=to), place=f"recipe.yaml:{name}")

    steps = [step("a", tmp_path / "x"), step("b", tmp_path / "y"), step("c", tmp_path / "y" / ".." / "x")]
    (finding,) = extend_plan(steps)
    assert finding.problem.startswith("c and a release to one folder") and finding.place == "recipe.yaml:c"
    for one, two in (("x", "x/deep/er"), ("x/deep/er", "x")):
        (finding,) = extend_plan([step("a", tmp_path / one), step("b", tmp_path / two), step("c", tmp_path / "xx")])
        assert finding.problem.startswith("b and a release one inside the other") and finding.place == "recipe.yaml:b"


def test_a_receipt_tells_every_file(made: Any, tmp_path: Path) -> None:
    receipt = made.publish(tmp_path / "receipt", [made.base], to=tmp_path / "out")
    assert set(read_json(receipt.path / "receipt.json")["files"]) == files(tmp_path / "out")
    assert not list(Release.missing(receipt.path))


@pytest.mark.parametrize("method", [Vllm, Tgi])
def test_a_release_for_an_engine_is_a_release_like_any(made: Any, tmp_path: Path, method: type[Folder]) -> None:
    to = tmp_path / "out"
    report = failing(made, tmp_path / "report", made.base.digest, failures={made.base.digest: ["too bad"]})
    with pytest.raises(StepError, match="base failed scores: too bad"):
        made.publish(tmp_path / "refused", [made.base], [report], method, to=to)
    assert not to.exists()
    options = {"to": to, "license": "mit", "language": ["en"], "datasets": ["org/orders"], "title": "Orders"}
    receipt = made.publish(tmp_path / "receipt", [made.base], [made.report], method, **options)
    assert set(read_json(receipt.path / "receipt.json")["files"]) == files(to)
    assert {"README.md", "lineage.json", "SHA256SUMS", "compose.yaml"} <= files(to)
    card = (to / "README.md").read_text()
    assert "license: mit" in card and "# Orders" in card and "**scores**" in card
    assert method(to=to).holds(receipt) and list(method(to=to).check({"artifacts": [made.base.facts(to)]})) == []
    (to / "compose.yaml").write_text("services: {}")
    assert not method(to=to).holds(receipt)
    (finding,) = method(to=to).check({"artifacts": [made.base.facts(to)]})
    assert "compose.yaml was changed since it was released" in finding.problem


def test_a_quantized_model_is_told_with_what_loads_it(made: Any, quantized: QuantizedModel, tmp_path: Path) -> None:
    def card(settings: dict[str, Any]) -> str:
        folder = tmp_path / settings["quant_method"]
        shutil.copytree(quantized.path, folder / "model")
        rewrite(folder / "model" / "config.json", quantization_config=settings)
        made.publish(folder / "receipt", [QuantizedModel(folder / "model", "4" * 64)], to=folder / "out")
        assert read_json(folder / "out" / "config.json")["quantization_config"] == settings
        return (folder / "out" / "README.md").read_text()

    gptq = card({"quant_method": "gptq", "bits": 4})
    assert "pip install torch transformers 'accelerate>=1.10' 'gptqmodel>=7.6,<7.7' 'optimum>=2.3'" in gptq
    assert "- gptq\n" in gptq and "| quantized-model, llama, gptq |" in gptq
    bits = card({"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert "bitsandbytes>=" in bits
    assert ").to(model.device)\n" in bits, "transformers puts such a model on a GPU unasked, where there is one"
    assert "compressed-tensors>=" in card({"quant_method": "compressed-tensors"})


def test_an_adapter_in_gguf_is_released_with_its_model_in_gguf(made: Any, tmp_path: Path) -> None:
    for name in ("whole", "light"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.gguf").write_bytes(b"GGUF")
    model, adapter = Gguf(tmp_path / "whole", "7" * 64), GgufAdapter(tmp_path / "light", "8" * 64, made.base)
    steps = [
        *made.lineage["steps"],
        made.entry("whole", model.digest, Gguf.kind, "quantize: gguf", {"model": ["base"]}),
        made.entry("light", adapter.digest, GgufAdapter.kind, "quantize: gguf_adapter", {"adapter": ["sft"]}),
    ]
    told = replace(made, lineage=made.lineage | {"steps": steps})
    told.publish(tmp_path / "receipt", [adapter, model], to=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "llama-server -m whole/whole.gguf --lora light/light.gguf --jinja --port 8080" in card
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"whole", "light"}
    with pytest.raises(StepError, match="none of the released GGUF models is the one it was trained on"):
        told.publish(tmp_path / "again", [adapter, made.gguf], to=tmp_path / "other")
    # What came from the registry does not say what it was made of.
    unknown = replace(made, lineage={"recipe": "orders", "steps": []})
    unknown.publish(tmp_path / "third", [adapter, model], to=tmp_path / "third" / "out")
