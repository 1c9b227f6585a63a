"""`evaluate: preference` against log-likelihoods computed by hand, one answer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tuneforge import RewardAdapter, RewardModel
from tuneforge.kit.chats import chat_ids, prompt_ids, tokenize_chat
from tuneforge.kit.models import load_model, save_adapter, save_model
from tuneforge.kit.rewards import load_reward_model, new_reward_model, score
from tuneforge_evaluate import Preference


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def pair(chosen: str, rejected: str, *prompt: dict[str, str]) -> dict[str, Any]:
    return {
        "prompt": list(prompt) or [said("user", "one pear for Kim")],
        "chosen": [said("assistant", chosen)],
        "rejected": [said("assistant", rejected)],
        "tools": None,
    }


KNOWN = '{"name": "Kim", "items": {"pear": 1}}'
PAIRS = [
    pair(KNOWN, "no"),
    pair("no", KNOWN),
    pair("plum, pear and apple for the old mill", "Ada"),
    pair("Ada", "Kim", said("user", "hello"), said("assistant", "two plums"), said("user", "who?")),
]


def by_hand(model: Any, tokenizer: Any, row: dict[str, Any], answer: str) -> tuple[float, int]:
    """logp of the answer's tokens after the prompt, terminator included, and their number."""
    start = len(prompt_ids(tokenizer, row["prompt"]))
    ids = tokenize_chat(tokenizer, row["prompt"] + row[answer]).ids
    ids = ids[: len(ids) - ids[::-1].index(tokenizer.eos_token_id)]  # ends with the terminator
    with torch.no_grad():
        likely = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
    return sum(likely[place - 1, ids[place]].item() for place in range(start, len(ids))), len(ids) - start


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_shares_and_margin_are_those_by_hand(world: Any, batch_size: int) -> None:
    subjects = [world.known, world.blank]
    report = world.run(Preference(batch_size=batch_size, dtype="float32"), subjects, world.pairs(PAIRS)).report
    for subject in subjects:
        model = load_model(subject, dtype=torch.float32)
        both = [[by_hand(model, world.tokenizer, row, name) for name in ("chosen", "rejected")] for row in PAIRS]
        margins = [chosen[0] - rejected[0] for chosen, rejected in both]
        each = [chosen[0] / chosen[1] - rejected[0] / rejected[1] for chosen, rejected in both]
        scores = report["scores"][subject.digest]
        assert scores["preference_accuracy"] == sum(margin > 0 for margin in margins) / 4
        assert scores["preference_accuracy_per_token"] == sum(margin > 0 for margin in each) / 4
        assert scores["preference_margin"] == pytest.approx(sum(margins) / 4, rel=1e-4, abs=1e-4)
    known = report["scores"]["known"]
    assert known["preference_accuracy"] < known["preference_accuracy_per_token"] or known["preference_accuracy"] < 1
    assert report["rows"] == 4 and report["subjects"] == ["known", "blank"] and report["passed"]


def test_the_better_known_answer_is_preferred_and_a_tie_is_no_preference(world: Any) -> None:
    report = world.run(Preference(), [world.known], world.pairs([PAIRS[0], PAIRS[1], pair("Ada", "Ada")])).report
    scores = report["scores"]["known"]
    assert scores["preference_accuracy"] == pytest.approx(1 / 3, abs=1e-6)
    assert abs(scores["preference_margin"]) < 0.05, "the two pairs cancel out"


def test_an_adapter_is_measured_on_its_base(world: Any) -> None:
    method = Preference(dtype="float32")
    report = world.run(method, [world.adapter, world.known], world.pairs(PAIRS)).report
    model = load_model(world.adapter, dtype=torch.float32).merge_and_unload()
    margin = sum(
        by_hand(model, world.tokenizer, row, "chosen")[0] - by_hand(model, world.tokenizer, row, "rejected")[0]
        for row in PAIRS
    )
    assert report["scores"]["adapter"]["preference_margin"] == pytest.approx(margin / 4, rel=1e-3)
    assert report["scores"]["adapter"] != report["scores"]["known"]


def test_what_must_be_reached(world: Any) -> None:
    method = Preference(
        require={"preference_accuracy": 0.5, "preference_margin": 1, "preference_accuracy_per_token": 1}
    )
    report = world.run(method, [world.known], world.pairs([PAIRS[0]])).report
    assert report["passed"]
    report = world.run(method, [world.known], world.pairs([PAIRS[1]])).report
    accuracy, per_token, margin = report["failures"]["known"]
    assert accuracy == "preference_accuracy is 0, at least 0.5 is required"
    assert per_token == "preference_accuracy_per_token is 0, at least 1 is required"
    assert margin.startswith("preference_margin is -")


def test_reward_models_are_measured_by_their_scores(world: Any, tmp_path: Path) -> None:
    for name in ("whole", "adapter"):
        (tmp_path / name).mkdir()
    save_model(
        new_reward_model(world.known, dtype=torch.float32, seed=1), world.tokenizer, tmp_path / "whole", torch.float32
    )
    torch.manual_seed(1)
    config = LoraConfig(r=4, init_lora_weights=False, task_type="SEQ_CLS")
    lora: Any = get_peft_model(new_reward_model(world.known, dtype=torch.float32, seed=2), config)
    save_adapter(lora, world.tokenizer, tmp_path / "adapter", world.known)
    subjects = [RewardModel(tmp_path / "whole", "whole"), RewardAdapter(tmp_path / "adapter", "lora", world.known)]
    method = Preference(batch_size=3, dtype="float32", require={"preference_margin": 100})
    report = world.run(method, [*subjects, world.known], world.pairs(PAIRS)).report
    assert report["subjects"] == ["whole", "lora", "known"] and report["rows"] == 4
    for subject in subjects:
        model = load_reward_model(subject, dtype=torch.float32)
        margins = []
        for row in PAIRS:
            ids = [chat_ids(world.tokenizer, row["prompt"] + row[side]) for side in ("chosen", "rejected")]
            margins.append(score(model, ids[:1])[0] - score(model, ids[1:])[0])
        found = report["scores"][subject.digest]
        assert found.keys() == {"preference_accuracy", "preference_margin"}
        assert found["preference_accuracy"] == sum(margin > 0 for margin in margins) / 4
        assert found["preference_margin"] == pytest.approx(sum(margins) / 4, abs=1e-5)
        assert report["failures"][subject.digest][0].startswith("preference_margin is")


def test_pairs_too_long_for_the_context_are_left_out(world: Any) -> None:
    result = world.run(Preference(limit=2), [world.known], world.pairs([pair("no", "pear " * 400), *PAIRS]))
    assert result.report["rows"] == 1 and result.report["left_out"] == {"longer than a context of 384 tokens": 1}


def test_a_model_without_a_template_is_found_before_anything_runs(world: Any) -> None:
    from tuneforge import Facts, Model

    (finding,) = Preference().check({"models": [Facts(Model, tokenizer=world.known.path)]})
    assert "chat template" in finding.problem
