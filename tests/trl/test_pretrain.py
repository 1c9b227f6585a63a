"""Continued pre-training on plain text."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from tests.trl.test_resume import assert_resumed, killed_at
from tuneforge import Adapter, ChatData, Facts, Model, TextData
from tuneforge.inputs import inputs_of
from tuneforge.kit.models import load_model, load_tokenizer
from tuneforge_trl.pretrain import Pretrain
from tuneforge_trl.sft import Sft

POEM = ["roses are red", "violets are blue", "sugar is sweet", ("and so", " are you")]
SHORT = {"batch_size": 2, "learning_rate": 1e-2, "max_length": 12, "save_every": 4, "log_every": 1}


def go_on(artifact: Model | Adapter, beginning: str) -> str:
    tokenizer, model = load_tokenizer(artifact), load_model(artifact, dtype=torch.float32)
    ids = torch.tensor([tokenizer(beginning)["input_ids"]])
    return str(tokenizer.decode(model.generate(ids, max_new_tokens=20, do_sample=False)[0]))


@pytest.fixture(scope="module")
def poem(base: Model, make_texts: Any, carry_out: Any) -> Any:
    return carry_out(Pretrain(steps=60, learning_rate=1e-2), base, make_texts(POEM, POEM[:2]))


@pytest.mark.slow
def test_it_learns_the_text_and_where_it_ends(poem: Any) -> None:
    assert poem.losses[0] > 4 and poem.losses[-1] < 0.5
    # Generation ends by itself: the end of a text is learnt, and is among the stop tokens.
    assert go_on(poem.result, "violets") == "violets are blue<|endoftext|>"
    assert go_on(poem.result, "and so are") == "and so are you<|endoftext|>"


@pytest.mark.slow
def test_what_is_told(base: Model, make_texts: Any, carry_out: Any) -> None:
    run = carry_out(Pretrain(steps=1, **SHORT), base, make_texts(POEM, POEM[:2]))
    figures, tokenizer = run.figures, load_tokenizer(base)
    texts = ["".join(text) for text in POEM]
    tokens = sum(len(tokenizer(text)["input_ids"]) + 1 for text in texts)
    assert figures["documents"] == 4 and figures["left_out"] == {} and figures["eval_documents"] == 2
    sequences = Dataset.from_file(str(run.step.scratch / "rows" / "train.arrow"))
    assert figures["sequences"] == len(sequences)
    parts = [length for row in sequences["seq_lengths"] for length in row]
    assert figures["tokens"] == sum(parts) == tokens + len(parts) - 4, "a document that is cut repeats a token"
    assert max(map(len, sequences["input_ids"])) <= 12
    assert figures["eval_perplexity"] == pytest.approx(math.exp(figures["eval_loss"]))


@pytest.mark.slow
def test_the_template_and_the_other_stop_tokens_stay(poem: Any, base: Model) -> None:
    ours, theirs = poem.files(), {path.name: path.read_bytes() for path in base.path.iterdir()}
    for name in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        assert ours[name] == theirs[name]
    stops = json.loads(ours["generation_config.json"])["eos_token_id"]
    tokenizer = load_tokenizer(base)
    assert [tokenizer.decode([stop]) for stop in stops] == ["<|im_end|>", "<|endoftext|>"]


@pytest.mark.slow
def test_the_loss_is_that_of_the_documents_alone(base: Model, make_texts: Any, carry_out: Any) -> None:
    """Packed, and each blind to the others: what the model says of each document by itself."""
    run = carry_out(Pretrain(epochs=1, batch_size=8, learning_rate=1e-5), base, make_texts(POEM))
    model, tokenizer = load_model(base, dtype=torch.float32), load_tokenizer(base)
    total, count = 0.0, 0
    for text in POEM:
        ids = torch.tensor([[*tokenizer("".join(text))["input_ids"], tokenizer.pad_token_id]])
        loss = model(ids, labels=ids).loss.item()
        total, count = total + loss * (ids.shape[1] - 1), count + ids.shape[1] - 1
    assert run.figures["sequences"] == 1
    assert run.losses[0] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.slow
def test_across_documents_a_sequence_is_one_text(base: Model, make_texts: Any, carry_out: Any) -> None:
    method = Pretrain(steps=1, batch_size=8, learning_rate=1e-5, across_documents=True)
    run = carry_out(method, base, make_texts(POEM))
    model, tokenizer = load_model(base, dtype=torch.float32), load_tokenizer(base)
    ids = [token for text in POEM for token in [*tokenizer("".join(text))["input_ids"], tokenizer.pad_token_id]]
    whole = torch.tensor([ids])
    assert run.losses[0] == pytest.approx(model(whole, labels=whole).loss.item(), rel=1e-4)


@pytest.mark.slow
def test_an_adapter_resumes_to_the_same_bytes(base: Model, make_texts: Any, carry_out: Any, tmp_path: Path) -> None:
    method = Pretrain(**SHORT, steps=7, adapter={"r": 4, "dropout": 0.1})
    data = make_texts(POEM, POEM[:1])
    wanted = carry_out(method, base, data)
    assert wanted.result.base == base
    killed_at(6, tmp_path, method, base, data, carry_out)
    assert_resumed(carry_out(method, base, data, tmp_path), wanted, after=4)


@pytest.mark.slow
def test_all_of_a_long_held_out_document_is_measured(base: Model, make_texts: Any, carry_out: Any) -> None:
    """It is cut into several sequences, each of which counts."""
    method = {"steps": 1, "batch_size": 2, "learning_rate": 1e-9, "max_length": 6}
    long = "roses are red, violets are blue"
    runs = [carry_out(Pretrain(**method, evaluate_every=every), base, make_texts(POEM, [long])) for every in (0, 1)]
    assert len(Dataset.from_file(str(runs[0].step.scratch / "rows" / "held_out.arrow"))) > 2
    assert runs[0].figures["eval_loss"] == runs[1].figures["eval_loss"]
    # Two documents that share a sequence are one row.
    one, two = (
        carry_out(Pretrain(**method | {"max_length": 64}), base, make_texts(POEM, [long] * count)) for count in (1, 2)
    )
    assert two.figures["eval_loss"] == pytest.approx(one.figures["eval_loss"], rel=1e-4)


@pytest.mark.slow
def test_no_template_is_needed(base: Model, make_texts: Any, carry_out: Any, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(base.path, tmp_path / "plain"))
    (folder / "chat_template.jinja").unlink()
    run = carry_out(Pretrain(steps=1), Model(folder, "p" * 64), make_texts(POEM))
    assert not (run.step.out / "chat_template.jinja").exists()
    again = carry_out(Pretrain(steps=1), Model(folder, "p" * 64), make_texts(POEM))
    assert again.files() == run.files()
    weights = load_file(run.step.out / "model.safetensors")
    assert any(not torch.equal(weights[name], old) for name, old in load_file(base.path / "model.safetensors").items())


def test_what_a_plan_says(base: Model) -> None:
    model = Model.facts(base.path)
    bare = replace(model, template=None)
    texts, chats = Facts(TextData), Facts(ChatData)
    for method in (Pretrain(), Sft()):
        assert list(method.check({"model": [bare], "data": [texts]})) == []
    assert "no chat template" in next(iter(Sft().check({"model": [bare], "data": [chats]}))).problem
    for method in (Pretrain(adapter={"type": "prefix"}), Pretrain(adapter={"type": "p-tuning"}, across_documents=True)):
        (finding,) = method.check({"model": [model], "data": [texts]})
        assert finding.field == "adapter.type" and "packed" in finding.problem
    (finding,) = Pretrain(max_length=999).check({"model": [model], "data": [texts]})
    assert finding.field == "max_length"
    assert [str(given) for given in inputs_of(Pretrain).values()] == ["model or adapter", "text-data"]
    with pytest.raises(ValueError, match="max_length"):
        Pretrain(max_length=1)
