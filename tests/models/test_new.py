import json
from pathlib import Path
from typing import Any

import pytest

from tuneforge import Model, Step
from tuneforge_models.new import New


def test_what_is_foreseen_is_what_comes(new: New, saved: Path) -> None:
    assert list(new.check({})) == []
    assert list(Model.missing(saved)) == []
    foreseen, found = new.foresee({}), Model.facts(saved)
    assert foreseen.config.items() <= found.config.items()
    assert foreseen.template == found.template


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
def test_every_architecture_can_be_made_and_read_again(architecture: str, new: New, step: Step) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = new.model_copy(update={"architecture": architecture, "dtype": "float32", "tied": False})
    made.run(step=step)
    assert made.foresee({}).config.items() <= json.loads((step.out / "config.json").read_text()).items()
    model: Any = AutoModelForCausalLM.from_pretrained(step.out)
    tokenizer = AutoTokenizer.from_pretrained(step.out)
    assert model.num_parameters() == step.figures["parameters"]
    assert model.get_input_embeddings().weight.shape == (step.figures["tokens"], 32)
    assert model.lm_head.weight.data_ptr() != model.get_input_embeddings().weight.data_ptr()
    ids = tokenizer("4 red lamps for Åse", return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == "4 red lamps for Åse"
    assert model(ids).logits.dtype == torch.float32
    assert torch.isfinite(model(ids).logits).all()


def test_the_seed_decides_the_weights(new: New, saved: Path, step: Step) -> None:
    new.run(step=step)
    assert _bytes(step.out) == _bytes(saved)
    other = Step("base", step.out.parent / "other", step.scratch, seed=2, threads=1, send=step.send)
    other.out.mkdir()
    new.run(step=other)
    assert {name for name, data in _bytes(other.out).items() if data != _bytes(saved)[name]} == {"model.safetensors"}


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({"heads": 3}, "hidden_size", "does not divide"),
        ({"hidden_size": 36, "heads": 4, "kv_heads": 2}, "hidden_size", "even width"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads", "share"),
        ({"tokenizer": Path("nowhere.txt")}, "tokenizer", "is not there"),
        ({"tokenizer": Path()}, "tokenizer", "is a folder"),
    ],
)
def test_sizes_that_do_not_fit_are_found_before_anything_runs(
    new: New, options: dict[str, object], field: str, problem: str
) -> None:
    findings = list(new.model_copy(update=options).check({}))
    assert any(finding.field == field and problem in finding.problem for finding in findings)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
