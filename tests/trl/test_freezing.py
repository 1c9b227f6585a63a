"""Weights that stay as they are while the rest of the model is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tuneforge import Adapter, ChatData, Facts, Finding, Model, StepError
from tuneforge.artifacts import Tensor
from tuneforge_models import fresh
from tuneforge_trl.layers.freezing import UnknownWeightsError, chosen
from tuneforge_trl.sft import Sft

FREEZE = ["embeddings", "layers 0", "*.mlp.down_proj"]


@pytest.fixture
def model(base: Model) -> Facts:
    return Model.facts(base.path)


def found(method: Sft, model: Facts) -> list[tuple[str, str, str]]:
    findings: list[Finding] = [*method.check({"model": [model]})]
    return [(finding.problem, finding.fix, finding.field) for finding in findings]


def shapes(*names: str) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(names, (4, 4))


def test_a_sound_choice(model: Facts) -> None:
    assert found(Sft(freeze=[*FREEZE, "model.layers.1.self_attn", "lm_head", "layers 0-1"]), model) == []
    assert found(Sft(freeze=["no such thing"]), Facts(Model)) == []  # nothing is known yet


def test_what_the_model_does_not_have(model: Facts) -> None:
    names = ["model.layers.1.self_atn.q_proj.weight", "attention", "layers 1-2", "layers 1-0"]
    assert found(Sft(freeze=names), model) == [
        (
            "the model has no weights that are called model.layers.1.self_atn.q_proj.weight",
            "Did you mean model.layers.*.self_attn.q_proj.weight or model.layers.*.self_attn.v_proj.weight or "
            "model.layers.*.self_attn.o_proj.weight?",
            "freeze",
        ),
        (
            "the model has no weights that are called attention",
            "It has lm_head, model.embed_tokens, model.layers.*.input_layernorm, model.layers.*.mlp.down_proj, "
            "model.layers.*.mlp.gate_proj, model.layers.*.mlp.up_proj, model.layers.*.post_attention_layernorm, "
            "model.layers.*.self_attn.k_proj, model.layers.*.self_attn.o_proj, model.layers.*.self_attn.q_proj, "
            "model.layers.*.self_attn.v_proj, model.norm.",
            "freeze",
        ),
        ("layers 1-2: the model has layers 0-1", "Count from 0, the last one included, as in layers 0-7.", "freeze"),
        ("layers 1-0: the model has layers 0-1", "Count from 0, the last one included, as in layers 0-7.", "freeze"),
    ]


NOTHING_LEFT = ("all of the model is frozen, nothing is left to be trained", "Freeze less of it.", "freeze")


def test_freezing_everything_is_refused(model: Facts) -> None:
    assert found(Sft(freeze=["*"]), model) == [NOTHING_LEFT]
    assert found(Sft(freeze=["embeddings", "layers 0-1", "model.norm"]), model) == []
    assert found(Sft(freeze=["embeddings", "layers 0-1", "model.norm", "lm_head"]), model) == [NOTHING_LEFT]


def test_a_tied_head_is_the_embedding(model: Facts) -> None:
    tensors = {name: tensor for name, tensor in model.tensors.items() if name != "lm_head.weight"}
    tied = replace(model, tensors=tensors, config={**model.config, "tie_word_embeddings": True})
    assert found(Sft(freeze=["lm_head"]), tied) == []
    for end in ("embeddings", "lm_head"):
        assert found(Sft(freeze=[end, "layers 0-1", "model.norm"]), tied) == [NOTHING_LEFT]


def test_an_adapter_freezes_the_model_by_itself(model: Facts) -> None:
    refused = [
        (
            "an adapter leaves all weights of the model as they are, so there is nothing to freeze",
            "Leave freeze out; target_modules says which layers get an adapter.",
            "freeze",
        )
    ]
    assert found(Sft(freeze=["embeddings"], adapter={"r": 4}), model) == refused
    adapter = Facts(Adapter, {"peft_type": "LORA"}, {}, model.tokenizer, model.template, model)
    assert found(Sft(freeze=["embeddings"]), adapter) == refused


def test_names_of_other_architectures() -> None:
    gpt2 = shapes("transformer.wte.weight", "transformer.wpe.weight", "transformer.h.0.ln_1.bias", "lm_head.weight")
    assert chosen("embeddings", gpt2) == {"transformer.wte.weight", "transformer.wpe.weight"}
    pythia = shapes("gpt_neox.embed_in.weight", "embed_out.weight", "gpt_neox.layers.0.mlp.dense_h_to_4h.bias")
    assert chosen("embeddings", pythia) == {"gpt_neox.embed_in.weight"}
    seeing = shapes(
        *(f"vision_tower.layers.{n}.q.weight" for n in range(3)), *(f"text.layers.{n}.q.weight" for n in range(2))
    )
    assert chosen("layers 1", seeing) == {"text.layers.1.q.weight"}
    many = shapes(*(f"h.{n}.q.weight" for n in range(12)))
    assert chosen("layers 9-11", many) == {f"h.{n}.q.weight" for n in (9, 10, 11)}
    assert chosen("h.1", many) == {"h.1.q.weight"}
    assert chosen("h.[0-3].*", many) == {f"h.{n}.q.weight" for n in range(4)}
    with pytest.raises(UnknownWeightsError, match="no weights that are called embeddings"):
        chosen("embeddings", many)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=pytest.mark.whole)])
def test_frozen_weights_end_as_they_began(
    base: Model, make_chats: Callable[..., ChatData], carry_out: Any, optimizer: str
) -> None:
    method = Sft(
        steps=2,
        batch_size=7,
        learning_rate=1e-2,
        weight_decay=0.1,
        freeze=FREEZE,
        optimizer=optimizer,
        gradient_checkpointing=True,
        save_every=1,
    )
    run = carry_out(method, base, make_chats())
    before, after = (load_file(folder / "model.safetensors") for folder in (base.path, run.step.out))
    kept = {
        name for name, weight in before.items() if torch.equal(weight.view(torch.int16), after[name].view(torch.int16))
    }
    frozen = {
        name for what in FREEZE for name in chosen(what, {name: tuple(weight.shape) for name, weight in before.items()})
    }
    assert kept == frozen
    assert len(frozen) == 1 + 9 + 1
    assert run.log[0] == "frozen: 11 of 21 tensors"
    sizes = {name: weight.numel() for name, weight in before.items()}
    left, total = sum(sizes[name] for name in sizes.keys() - frozen), sum(sizes.values())
    assert run.log[1] == f"trainable: {left:,} of {total:,} parameters ({left / total:.1%})"
    assert (run.figures["trainable_parameters"], run.figures["total_parameters"]) == (left, total)
    # The optimizer keeps nothing of a frozen weight.
    saved = torch.load(run.step.scratch / "checkpoints" / "checkpoint-1" / "optimizer.pt", weights_only=True)
    parts = saved["parts"] if optimizer == "muon" else [saved]
    assert sum(len(part["state"]) for part in parts) == len(sizes) - len(frozen)


@pytest.mark.slow
def test_a_tied_head_stays_with_the_embedding(make_chats: Any, carry_out: Any, base: Model, tmp_path: Path) -> None:
    from tuneforge.kit.models import load_tokenizer

    sizes = {"hidden_size": 32, "intermediate_size": 32, "layers": 1, "heads": 2, "kv_heads": 1, "context": 128}
    tokenizer: Any = load_tokenizer(base)
    model = fresh.make_model("llama", tokenizer, **sizes, tied=True, dtype=torch.float32, seed=1)
    fresh.save(model, tokenizer, tmp_path)
    tied = Model(tmp_path, "a" * 64)
    run = carry_out(Sft(steps=1, freeze=["lm_head"], learning_rate=1e-2, warmup=0), tied, make_chats())
    assert run.log[0] == "frozen: 1 of 12 tensors; model.embed_tokens.weight with them, tied to one of them"
    before, after = (load_file(folder / "model.safetensors") for folder in (tied.path, run.step.out))
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert not torch.equal(before["model.norm.weight"], after["model.norm.weight"])
    with pytest.raises(StepError, match="nothing is left to be trained"):
        carry_out(Sft(steps=1, freeze=["*"]), tied, make_chats())
    with pytest.raises(StepError, match=r"no weights that are called head\n.*Did you mean lm_head"):
        carry_out(Sft(steps=1, freeze=["head"]), tied, make_chats())


def test_mixtures_whose_weights_are_renamed_as_they_are_loaded() -> None:
    names = ["model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.block_sparse_moe.experts.0.w1.weight"]
    mixtral = Facts(Model, {}, dict.fromkeys(names, Tensor("BF16", (4, 4))), None, "template")
    findings = Sft(freeze=["*.mlp.gate.*"]).check({"model": [mixtral]})
    assert [finding.level for finding in findings] == ["warning"]


def test_a_tensor_of_another_kind_is_no_matter() -> None:
    facts = Facts(Model, {}, {"a.layers.0.q.weight": Tensor("I64", (1,)), "a.norm.weight": Tensor("F32", (4,))})
    assert found(Sft(freeze=["layers 0"]), facts) == []
