"""Muon with AdamW: which weights go to which, and that it learns."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import LambdaLR

from tuneforge import Model
from tuneforge.kit.models import load_model
from tuneforge.kit.rewards import new_reward_model
from tuneforge_trl.optimizers import muon
from tuneforge_trl.sft import Sft


def names_in(optimizer: Any, model: torch.nn.Module) -> set[str]:
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    return {name for name, weight in model.named_parameters() if id(weight) in held}


@pytest.fixture
def model(base: Model) -> Any:
    return load_model(base, dtype=torch.float32, trainable=True)


def test_matrices_are_muons_and_the_rest_is_adamws(model: Any) -> None:
    joint: Any = muon(model, learning_rate=1e-3, weight_decay=0.0)
    of_muon, of_adamw = joint._parts
    assert isinstance(of_muon, Muon)
    assert isinstance(of_adamw, AdamW)
    ends = {"model.embed_tokens.weight", "lm_head.weight"}
    everything = {name for name, _ in model.named_parameters()}
    assert ends <= names_in(of_adamw, model)
    assert names_in(of_muon, model) == {name for name in everything - ends if "norm" not in name}
    assert names_in(of_muon, model) | names_in(of_adamw, model) == everything


def test_a_score_is_adamws(base: Model) -> None:
    model = new_reward_model(base, dtype=torch.float32, seed=1)
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules="all-linear"))
    for given in (model, adapted):
        joint: Any = muon(given, learning_rate=1e-3, weight_decay=0.0)
        of_muon, of_adamw = joint._parts
        assert not any("score" in name for name in names_in(of_muon, given))
        assert any("score" in name for name in names_in(of_adamw, given))


def test_gains_do_not_decay(model: Any) -> None:
    joint = muon(model, learning_rate=1e-3, weight_decay=0.1)
    decaying = [group["weight_decay"] for group in joint.param_groups for weight in group["params"] if weight.ndim > 1]
    vectors = [group["weight_decay"] for group in joint.param_groups for weight in group["params"] if weight.ndim == 1]
    assert set(decaying) == {0.1} and set(vectors) == {0.0}


def test_a_frozen_weight_is_in_neither(model: Any) -> None:
    frozen = "model.layers.0.self_attn.q_proj.weight"
    model.get_parameter(frozen).requires_grad_(False)
    assert frozen not in names_in(muon(model, learning_rate=1e-3, weight_decay=0.0), model)


def test_of_an_adapter_all_matrices_are_muons(model: Any) -> None:
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    found = names_in(muon(adapted, learning_rate=1e-3, weight_decay=0.0), adapted)
    assert found == {name for name, _ in adapted.named_parameters() if ".lora_" in name}


def test_a_schedule_still_reaches_every_weight_after_loading(model: Any) -> None:
    joint = muon(model, learning_rate=1.0, weight_decay=0.0)
    joint.load_state_dict(joint.state_dict())
    schedule = LambdaLR(joint, lambda step: 1 / (1 + step))
    joint.step()
    schedule.step()
    assert [group["lr"] for part in joint._parts for group in part.param_groups] == [0.5, 0.5, 0.5]


@pytest.mark.slow
def test_muon_learns_from_fewer_steps(base: Model, make_chats: Any, carry_out: Any) -> None:
    last = {
        name: carry_out(Sft(optimizer=name, learning_rate=4e-3, batch_size=4, steps=12), base, make_chats()).losses[-1]
        for name in ("adamw", "muon")
    }
    assert last["muon"] < last["adamw"]
