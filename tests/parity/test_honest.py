"""Honest exports pass every threshold, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.parity.conftest import Lab
from tuneforge import Gguf, Model, QuantizedModel, StepError
from tuneforge_parity import RecordProbe
from tuneforge_parity.kinds import Probe

SCORES = {
    *("template", "prompt_ids", "string_ids", "stop_tokens", "top1", "kl_mean", "kl_p99", "perplexity_ratio"),
    *("answers", "bits"),
}


@pytest.mark.slow
def test_a_merged_adapter(lab: Lab, reference: Probe, merged: Model) -> None:
    outcome = lab.compare(reference, merged)
    assert outcome.told["passed"] and not outcome.warnings, outcome.failures
    assert outcome.told["subjects"] == [merged.digest] and outcome.scores.keys() == SCORES
    assert 0 < outcome.scores["kl_mean"] < 5e-5  # type: ignore[operator]
    assert outcome.scores["bits"] == pytest.approx(16, abs=0.1)
    assert "| KL divergence, mean (nats) |" in (outcome.out / "parity.md").read_text()
    assert "failed" not in (outcome.out / "parity.md").read_text()
    assert (outcome.out / "parity.svg").read_text().startswith("<svg")
    curve = [event["figures"]["kl_divergence"] for event in outcome.events if event["event"] == "progress"]
    assert curve == sorted(curve) and len(curve) == outcome.told["positions"] > 64


@pytest.mark.slow
def test_a_gguf_file(lab: Lab, reference: Probe, exported: Gguf) -> None:
    outcome = lab.compare(reference, exported)
    assert outcome.told["passed"], outcome.failures
    assert outcome.told["format"] == "Q8_0" and outcome.scores["bits"] == 8.5
    # It can be told from the full model, so that it could be told from another one.
    assert outcome.scores["kl_mean"] > lab.compare(reference, lab.adapter).scores["kl_mean"]  # type: ignore[operator]


@pytest.mark.whole
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_three_seeds(make_lab: Callable[[int], Lab], seed: int) -> None:
    lab = make_lab(seed)
    reference = lab.probe(lab.adapter)
    merged = lab.merged()
    forms: list[Any] = [merged, lab.merged(dtype=torch.float32), lab.merged(dtype=torch.float16)]
    forms += [lab.gguf(merged, kind) for kind in ("f16", "bf16", "q8_0")]
    for form in forms:
        outcome = lab.compare(reference, form)
        assert outcome.told["passed"], f"{outcome.told['format']}: {outcome.failures}"


@pytest.mark.slow
def test_same_bytes_twice(lab: Lab, merged: Model, exported: Gguf) -> None:
    for form in (merged, exported):
        first, second = (lab.probe(form, limit=2) for _ in range(2))
        for name in ("probe.json", "numbers.safetensors"):
            assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


@pytest.mark.slow
def test_bars_are_set_by_format_and_for_a_step(lab: Lab, reference: Probe, merged: Model) -> None:
    probe = lab.probe(merged)
    bar = {"kl_mean": 1e-12}
    assert lab.compare(reference, probe, formats={"bits8": bar}).told["passed"]
    outcome = lab.compare(reference, probe, formats={"float16": bar})
    assert "kl_mean is" in outcome.failures and "at most 1e-12 is required" in outcome.failures
    assert lab.compare(reference, probe, formats={"float16": bar}, require={"kl_mean": 1}).told["passed"]


@pytest.mark.slow
def test_probes_that_were_asked_different_things_are_not_compared(lab: Lab, reference: Probe, merged: Model) -> None:
    with pytest.raises(StepError, match="asked different things"):
        lab.compare(reference, lab.probe(merged, limit=1))


@pytest.mark.slow
def test_without_data_built_in_prompts_are_asked(lab: Lab, merged: Model) -> None:
    probes = []
    for form in (lab.adapter, merged):
        step, _ = lab.step(lab.new("probe"))
        RecordProbe(limit=2, positions=4, max_new_tokens=4).run(form, step=step)
        probes.append(Probe(step.out, step.out.name))
    outcome = lab.compare(*probes)
    assert outcome.told["passed"] and outcome.told["positions"] == 8


@pytest.mark.whole
@pytest.mark.parametrize(("name", "bits"), [("load_in_4bit", 4), ("load_in_8bit", 8)])
def test_a_model_of_bitsandbytes(lab: Lab, reference: Probe, merged: Model, name: str, bits: int) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    folder = lab.new(name)
    shutil.copytree(merged.path, folder, dirs_exist_ok=True)
    settings = BitsAndBytesConfig(**{name: True}, bnb_4bit_quant_type="nf4")
    rounded: Any = AutoModelForCausalLM.from_pretrained(
        merged.path, quantization_config=settings, device_map={"": "cpu"}, dtype=torch.float32
    )
    rounded.save_pretrained(folder)
    outcome = lab.compare(reference, QuantizedModel(folder, folder.name))
    assert outcome.told["passed"], outcome.failures
    assert bits < (outcome.scores["bits"] or 0) < bits + 0.6
