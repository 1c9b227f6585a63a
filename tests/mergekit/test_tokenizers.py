"""Models of differing vocabularies, and whose tokenizer, template and stop tokens the result has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from tests.mergekit.conftest import TEXTS, Merged, make, tuned, weights, with_config
from tuneforge import Model
from tuneforge.artifacts import read_template
from tuneforge_mergekit.averages import Linear
from tuneforge_mergekit.spheres import Slerp
from tuneforge_mergekit.task_vectors import TaskArithmetic

Merge = Callable[..., Merged]
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def other(base: Model) -> Model:
    """A model with other tokens in another order."""
    texts = ("Zebras yawn, quick foxes jump, quick foxes jump again.", *TEXTS)
    return make(base.path.with_name("other"), texts=texts, vocabulary=300, seed=5)


def ids(model: Model) -> dict[str, int]:
    found: dict[str, int] = AutoTokenizer.from_pretrained(model.path).get_vocab()
    return found


def test_embeddings_are_aligned_by_token_to_one_of_the_models(base: Model, other: Model, merge: Merge) -> None:
    merged = merge(Linear(tokenizer=1), [base, other])
    assert ids(merged.model) == ids(other)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (merged.model.path / name).read_bytes() == (other.path / name).read_bytes()
    found, mine, its = (weights(model)[EMBEDDING] for model in (merged.model, base, other))
    before, after = ids(base), ids(other)
    both = before.keys() & after.keys()
    assert len(both) > 256
    for token in both:
        wanted = (mine[before[token]] + its[after[token]]) / 2
        assert torch.allclose(found[after[token]], wanted, atol=1e-6), token
    for token in after.keys() - both:
        assert torch.allclose(found[after[token]], its[after[token]], atol=1e-6), token


def test_a_union_has_the_tokens_of_all(base: Model, other: Model, merge: Merge) -> None:
    merged = merge(Slerp(tokenizer="union", t=0.4), [base, other])
    assert ids(merged.model).keys() == ids(base).keys() | ids(other).keys()
    config = json.loads((merged.model.path / "config.json").read_text())
    assert config["vocab_size"] == len(ids(merged.model)) == len(weights(merged.model)[EMBEDDING])
    assert read_template(merged.model.path) == read_template(base.path)
    stop = GenerationConfig.from_pretrained(merged.model.path).eos_token_id
    assert AutoTokenizer.from_pretrained(merged.model.path).convert_ids_to_tokens(stop) == "<|im_end|>"
    assert merged.figures["tokens"] == len(ids(merged.model))


def test_a_special_token_that_is_none_stays_none(base: Model, other: Model, merge: Merge, tmp_path: Path) -> None:
    early = with_config(base, tmp_path / "early", pad_token_id=-1, eos_token_id=[2, 4711])
    merged = merge(Linear(tokenizer="union"), [early, other])
    config = json.loads((merged.model.path / "config.json").read_text())
    assert config["pad_token_id"] is None and len(config["eos_token_id"]) == 1


def test_a_union_with_a_base_that_has_no_template_has_that_of_a_model(
    base: Model, other: Model, merge: Merge, tmp_path: Path
) -> None:
    plain = make(tmp_path / "plain", seed=3)
    (plain.path / "chat_template.jinja").unlink()
    settings = json.loads((plain.path / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (plain.path / "tokenizer_config.json").write_text(json.dumps(settings))
    (plain.path / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    method, models = TaskArithmetic(tokenizer="union", weights=0.5), [other, tuned(base, tmp_path / "tuned", 2)]
    merged = merge(method, models, plain)
    assert read_template(merged.model.path) == read_template(other.path)
    facts = [Model.facts(model.path) for model in (plain, *models)]
    assert method.foresee({"base": facts[:1], "models": facts[1:]}).template == read_template(other.path)
    stop = GenerationConfig.from_pretrained(merged.model.path).eos_token_id
    assert AutoTokenizer.from_pretrained(merged.model.path).convert_ids_to_tokens(stop) == "<|im_end|>"


@pytest.mark.parametrize(
    ("tokenizer", "whose"), [(None, 0), (1, 1), ("base", 2), ("union", 2)], ids=["none", "second", "base", "union"]
)
def test_template_and_stop_tokens_come_from_whose_the_tokenizer_is(
    tokenizer: str | int | None, whose: int, base: Model, merge: Merge, tmp_path: Path
) -> None:
    models = [tuned(base, tmp_path / f"tuned-{seed}", seed) for seed in range(3)]
    for number, model in enumerate(models):
        (model.path / "chat_template.jinja").write_text(
            f"{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}{number}"
        )
        (model.path / "generation_config.json").write_text(json.dumps({"eos_token_id": [number]}))
    merged = merge(TaskArithmetic(tokenizer=tokenizer), models[:2], models[2])
    assert read_template(merged.model.path) == read_template(models[whose].path)
    assert GenerationConfig.from_pretrained(merged.model.path).eos_token_id == [whose]
