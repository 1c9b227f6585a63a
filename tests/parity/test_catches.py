"""What is wrong with an export is found, said, and stops the release."""

from __future__ import annotations

import shutil
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.parity.conftest import Lab, Outcome, nf4, other_base
from tuneforge import Artifact, Gguf, Model, QuantizedModel, Step, StepError
from tuneforge_parity import with_transformers
from tuneforge_parity.kinds import Probe
from tuneforge_parity.loading import load
from tuneforge_publish import Folder

pytestmark = pytest.mark.slow


def release(lab: Lab, artifact: Artifact, outcome: Outcome, **options: Any) -> list[dict[str, Any]]:
    """Publishes an artifact with its report; what was said."""
    entries = [
        {"name": "shipped", "digest": artifact.digest, "kind": artifact.kind, "inputs": {}, "config": {}},
        {"name": "shipped.parity", "digest": outcome.report.digest, "kind": "report", "inputs": {}, "config": {}},
    ]
    events: list[dict[str, Any]] = []
    out = lab.new("release")
    step = Step("release", out, out / "scratch", 1, 1, events.append, {"recipe": "orders", "steps": entries})
    Folder(to=lab.new("dist"), **options).run([artifact], [outcome.report], step=step)  # type: ignore[list-item]
    return events


def refused(lab: Lab, artifact: Artifact, outcome: Outcome) -> str:
    """Why a release is refused; every reason of the report is told, in the run, too."""
    assert not outcome.told["passed"]
    with pytest.raises(StepError) as error:
        release(lab, artifact, outcome)
    assert outcome.failures in str(error.value) and "shipped failed shipped.parity" in str(error.value)
    assert outcome.warnings and outcome.failures in outcome.warnings[0]
    return outcome.failures


def test_a_wrong_chat_template(lab: Lab, reference: Probe, merged: Model) -> None:
    folder = lab.new("template")
    shutil.copytree(merged.path, folder, dirs_exist_ok=True)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_start|>", "<|im_start|> "))
    wrong = Model(folder, folder.name)
    outcome = lab.compare(reference, wrong)
    said = refused(lab, wrong, outcome)
    assert outcome.scores["template"] == 0 and "the form has another chat template" in said
    assert outcome.scores["string_ids"] == outcome.scores["stop_tokens"] == 1
    assert outcome.scores["kl_mean"] is None and "kl_mean, kl_p99, perplexity_ratio could not be measured" in said


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("generation_config.json", {"eos_token_id": 0}),
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>"}),
    ],
)
def test_a_swapped_stop_token(lab: Lab, reference: Probe, merged: Model, file: str, change: dict[str, Any]) -> None:
    wrong = lab.changed(merged, file, lambda content: content | change)
    outcome = lab.compare(reference, wrong)
    assert "a stop token was swapped or lost" in refused(lab, wrong, outcome)
    assert outcome.scores["stop_tokens"] == 0 and outcome.scores["prompt_ids"] == 1


def test_a_merge_onto_the_wrong_base(lab: Lab, reference: Probe) -> None:
    wrong = lab.merged(other_base)
    outcome = lab.compare(reference, wrong)
    said = refused(lab, wrong, outcome)
    assert "merged onto another base" in said and "kl_mean" in said and "top1" in said
    assert outcome.scores["template"] == outcome.scores["prompt_ids"] == outcome.scores["stop_tokens"] == 1


def test_a_merge_onto_the_4_bit_base(lab: Lab, reference: Probe) -> None:
    wrong = lab.merged(nf4)
    outcome = lab.compare(reference, wrong)
    said = refused(lab, wrong, outcome)
    assert "onto one rounded to 4 or 8 bits" in said and "kl_mean" in said
    assert outcome.scores["template"] == outcome.scores["prompt_ids"] == outcome.scores["stop_tokens"] == 1


def test_a_merge_onto_the_4_bit_base_that_hides_in_fewer_bits(lab: Lab, reference: Probe) -> None:
    """Against what 8 bits may lose it is nothing: the report of the merge stops what is made of that, too."""
    wrong = lab.merged(nf4)
    outcome = lab.compare(reference, wrong)
    exported = lab.gguf(wrong, "q8_0")
    assert lab.compare(reference, exported).told["passed"]
    entries = [
        {"name": "merged", "digest": wrong.digest, "kind": "model", "stage": "merge", "inputs": {}, "config": {}},
        {
            "name": "small",
            "digest": exported.digest,
            "kind": "gguf",
            "stage": "quantize",
            "inputs": {"model": ["merged"]},
            "config": {},
        },
        {"name": "merged.parity", "digest": outcome.report.digest, "kind": "report", "inputs": {}, "config": {}},
    ]
    out = lab.new("release")
    step = Step("release", out, out / "scratch", 1, 1, lambda event: None, {"recipe": "orders", "steps": entries})
    with pytest.raises(StepError, match=r"merged failed merged\.parity"):
        Folder(to=lab.new("dist")).run([exported], [outcome.report], step=step)


def test_a_form_whose_numbers_overflow(lab: Lab, merged: Model) -> None:
    folder = lab.new("infinite")
    shutil.copytree(merged.path, folder, dirs_exist_ok=True)
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(StepError, match="not finite"):
        lab.probe(Model(folder, folder.name))


def rewritten(lab: Lab, file: Gguf, keys: dict[str, Any]) -> Gguf:
    """A GGUF file with other metadata, by the gguf package."""
    folder = lab.new("rewritten")
    (source,) = file.path.glob("*.gguf")
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(folder / source.name, "llama")
    for name, field in reader.fields.items():
        if name == gguf.Keys.General.ARCHITECTURE or name.startswith("GGUF."):
            continue
        value = keys.get(name, field.contents())
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, field.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Gguf(folder, folder.name)


def test_a_gguf_file_with_a_wrong_pre_tokenizer(lab: Lab, reference: Probe, exported: Gguf) -> None:
    wrong = rewritten(lab, exported, {"tokenizer.ggml.pre": "llama-bpe"})
    outcome = lab.compare(reference, wrong)
    assert "a wrong pre-tokenizer" in refused(lab, wrong, outcome)
    assert outcome.scores["template"] == 1 and (outcome.scores["string_ids"] or 0) < 0.9


def test_a_gguf_file_with_a_swapped_stop_token(lab: Lab, reference: Probe, exported: Gguf) -> None:
    wrong = rewritten(lab, exported, {"tokenizer.ggml.eos_token_id": 0})
    outcome = lab.compare(reference, wrong)
    assert "with eos token 0" in refused(lab, wrong, outcome)


def test_a_gguf_file_with_a_wrong_chat_template(lab: Lab, reference: Probe, exported: Gguf) -> None:
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
    wrong = rewritten(lab, exported, {"tokenizer.chat_template": template})
    assert "the form has another chat template" in refused(lab, wrong, lab.compare(reference, wrong))


def test_a_gguf_file_that_was_not_quantized(lab: Lab, reference: Probe, merged: Model) -> None:
    wrong = rewritten(lab, lab.gguf(merged, "bf16"), {"general.file_type": int(gguf.LlamaFileType.MOSTLY_Q4_0)})
    outcome = lab.compare(reference, wrong)
    said = refused(lab, wrong, outcome)
    assert "16 bits a weight are in its files, which claim 4" in said and "it was not quantized" in said


def test_a_quantized_model_that_was_not_quantized(
    lab: Lab, reference: Probe, merged: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
    wrong = lab.changed(merged, "config.json", lambda content: content | {"quantization_config": settings})
    wrong = QuantizedModel(wrong.path, wrong.digest)
    # GPTQ's own loader is not here; what the files hold is measured before anything is loaded.
    monkeypatch.setattr(with_transformers, "load", lambda artifact: load(merged))
    outcome = lab.compare(reference, wrong)
    assert "bits a weight are in its files, which claim 4" in refused(lab, wrong, outcome)
    assert outcome.scores["kl_mean"] < 1e-4  # type: ignore[operator]  # that alone would have let it pass


def test_it_is_released_all_the_same_when_that_is_said_by_name(lab: Lab, reference: Probe, merged: Model) -> None:
    wrong = lab.changed(merged, "generation_config.json", lambda content: content | {"eos_token_id": 0})
    outcome = lab.compare(reference, wrong)
    with pytest.raises(StepError):
        release(lab, wrong, outcome, despite=["other.parity"])
    events = release(lab, wrong, outcome, despite=["shipped.parity"])
    (warning,) = [event["problem"] for event in events if event["event"] == "warning"]
    assert "released though shipped failed shipped.parity: answers end elsewhere" in warning
