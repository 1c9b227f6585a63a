"""Reward models: trained, loaded, scored, resumed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from tests.trl.colours import PAIRS
from tests.trl.test_resume import assert_resumed, killed_at
from tuneforge import Facts, Model, RewardAdapter, RewardModel, StepError
from tuneforge.inputs import inputs_of
from tuneforge.kit.chats import chat_ids
from tuneforge.kit.models import load_tokenizer
from tuneforge.kit.rewards import load_reward_model, new_reward_model, score, score_padding
from tuneforge_trl import reward_engine
from tuneforge_trl.reward import Reward

SHORT = {"batch_size": 2, "log_every": 1, "save_every": 4}
WHOLE = Reward(**SHORT, steps=7, learning_rate=1e-3)
LORA = Reward(**SHORT, steps=7, learning_rate=1e-2, adapter={"r": 4, "dropout": 0.1})


def scores(artifact: RewardModel | RewardAdapter, pairs: Any = PAIRS) -> list[tuple[float, float]]:
    """Scores of the chosen and the rejected conversation of each pair, one at a time."""
    tokenizer, model = load_tokenizer(artifact), load_reward_model(artifact, dtype=torch.float32)
    both = [[chat_ids(tokenizer, row["prompt"] + row[side]) for side in ("chosen", "rejected")] for row in pairs]
    return [(score(model, [chosen])[0], score(model, [rejected])[0]) for chosen, rejected in both]


@pytest.fixture(scope="module")
def whole(base: Model, make_pairs: Any, carry_out: Any) -> Any:
    method = Reward(steps=20, batch_size=7, learning_rate=1e-3)
    return carry_out(method, base, make_pairs(held_out=PAIRS[:3]))


@pytest.fixture(scope="module")
def lora(base: Model, make_pairs: Any, carry_out: Any) -> Any:
    method = Reward(steps=20, batch_size=7, learning_rate=1e-2, adapter={"r": 8})
    return carry_out(method, base, make_pairs(held_out=PAIRS[:3]))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["whole", "lora"])
def test_it_learns_which_answer_is_better(which: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(which)
    assert run.losses[0] == pytest.approx(0.69, abs=0.05), "a new head knows nothing"
    assert run.losses[-1] < 0.1
    figures = run.figures
    assert figures["eval_reward_accuracy"] == 1 and figures["eval_reward_margin"] > 2 and figures["eval_loss"] < 0.1
    assert figures["pairs"] == 7 and figures["eval_pairs"] == 3 and figures["left_out"] == {}
    found = scores(run.result)
    assert all(chosen > rejected + 1 for chosen, rejected in found)
    held_out = found[:3]
    margin = sum(chosen - rejected for chosen, rejected in held_out) / 3
    # Stored as the base is, in bfloat16, a whole model is not quite what it was.
    assert margin == pytest.approx(figures["eval_reward_margin"], rel=0.02 if which == "whole" else 1e-4)
    progress = [event["figures"] for event in run.events if event["event"] == "progress"]
    assert progress[-1]["reward_accuracy"] == 1 and progress[-1]["reward_margin"] > 2


@pytest.mark.slow
def test_a_whole_one_is_what_transformers_loads(whole: Any, base: Model) -> None:
    assert not list(RewardModel.missing(whole.step.out)) and whole.step.base is None
    config = json.loads(whole.files()["config.json"])
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert len(config["id2label"]) == 1 and config["pad_token_id"] == load_tokenizer(base).pad_token_id
    assert not {"transformers_version", "_name_or_path"} & config.keys()
    weights = load_file(whole.step.out / "model.safetensors")
    assert weights["score.weight"].shape == (1, 64) and "lm_head.weight" not in weights
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    model = AutoModelForSequenceClassification.from_pretrained(whole.step.out, dtype=torch.float32)
    tokenizer = load_tokenizer(whole.result)
    texts = [tokenizer.apply_chat_template(row["prompt"] + row["chosen"], tokenize=False) for row in PAIRS]
    logits = model(**tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")).logits[:, 0]
    assert logits.tolist() == pytest.approx([chosen for chosen, _ in scores(whole.result)], abs=1e-4)


@pytest.mark.slow
def test_an_adapter_holds_the_score_head(lora: Any, base: Model) -> None:
    assert lora.step.base == base.digest and not list(RewardAdapter.missing(lora.step.out))
    weights = load_file(lora.step.out / "adapter_model.safetensors")
    assert [name for name in weights if "score" in name] == ["base_model.model.score.weight"]
    assert lora.figures["trainable_parameters"] < lora.figures["total_parameters"] / 2
    config = json.loads(lora.files()["adapter_config.json"])
    assert config["task_type"] == "SEQ_CLS" and config["base_model_name_or_path"] == f"sha256:{base.digest}"


@pytest.mark.slow
def test_several_at_once_score_as_each_alone(lora: Any) -> None:
    tokenizer, model = load_tokenizer(lora.result), load_reward_model(lora.result, dtype=torch.float32)
    rows = [chat_ids(tokenizer, row["prompt"] + row[side]) for row in PAIRS for side in ("chosen", "rejected")]
    assert score(model, rows) == pytest.approx([score(model, [row])[0] for row in rows], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [pytest.param(WHOLE, id="whole", marks=pytest.mark.whole), pytest.param(LORA, id="lora")]
)
def test_killed_and_started_again(method: Reward, base: Model, make_pairs: Any, carry_out: Any, tmp_path: Path) -> None:
    data = make_pairs(held_out=PAIRS[:2])
    wanted = carry_out(method, base, data)
    killed_at(6, tmp_path, method, base, data, carry_out)
    assert_resumed(carry_out(method, base, data, tmp_path), wanted, after=4)


@pytest.mark.slow
def test_margins_and_centering(base: Model, make_pairs: Any, carry_out: Any) -> None:
    method = {"steps": 1, "batch_size": 7, "learning_rate": 1e-6}
    plain = carry_out(Reward(**method), base, make_pairs())
    nothing = carry_out(Reward(**method), base, make_pairs([row | {"margin": None} for row in PAIRS]))
    assert nothing.losses == plain.losses and nothing.files() == plain.files()
    before = new_reward_model(base, dtype=torch.float32, seed=1).eval()
    tokenizer = load_tokenizer(base)
    both = [
        torch.tensor([score(before, [chat_ids(tokenizer, row["prompt"] + row[side])])[0] for row in PAIRS])
        for side in ("chosen", "rejected")
    ]
    margins = torch.arange(7) / 2

    def loss(margin: torch.Tensor) -> torch.Tensor:
        return -torch.nn.functional.logsigmoid(both[0] - both[1] - margin).mean()

    assert plain.losses[0] == pytest.approx(float(loss(torch.zeros(7))), abs=1e-5)
    held = carry_out(Reward(**method), base, make_pairs([row | {"margin": n / 2} for n, row in enumerate(PAIRS)]))
    assert held.losses[0] == pytest.approx(float(loss(margins)), abs=1e-5)
    centred = carry_out(Reward(**method, center=0.5), base, make_pairs())
    wanted = loss(torch.zeros(7)) + 0.5 * ((both[0] + both[1]) ** 2).mean()
    assert centred.losses[0] == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.slow
def test_the_split_of_a_batch_does_not_matter(base: Model, make_pairs: Any, carry_out: Any) -> None:
    runs = [
        carry_out(Reward(epochs=2, batch_size=4, micro_batch_size=micro, learning_rate=1e-3), base, make_pairs())
        for micro in (1, 4)
    ]
    assert [run.figures["steps"] for run in runs] == [4, 4]
    assert runs[1].losses == pytest.approx(runs[0].losses, rel=1e-4)


def test_a_new_head_depends_on_the_seed_alone(base: Model) -> None:
    torch.manual_seed(0)
    one = new_reward_model(base, dtype=torch.float32, seed=1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    same, other = (new_reward_model(base, dtype=torch.float32, seed=seed) for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.score.weight, same.score.weight) and one.training
    assert not torch.equal(one.score.weight, other.score.weight)


def test_what_pads_ends_no_conversation(base: Model) -> None:
    tokenizer = load_tokenizer(base)
    assert tokenizer.decode([score_padding(tokenizer)]) == "<|endoftext|>"
    tokenizer.pad_token = tokenizer.eos_token = "<|im_end|>"
    assert tokenizer.decode([score_padding(tokenizer)]) == "<|endoftext|>"
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    assert tokenizer.decode([score_padding(tokenizer)]) == "<s>"


def test_the_last_token_is_read_where_the_base_pads_with_its_end_of_turn(base: Model, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(base.path, tmp_path / "base"))
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content |= {"pad_token": "<|im_end|>"} if "tokenizer" in name else {"pad_token_id": 2}
        (folder / name).write_text(json.dumps(content))
    # Nothing after the terminator: it is the conversation's last token.
    template = folder / "chat_template.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}{{ m.content }}<|im_end|>{% endfor %}")
    model = Model(folder, "e" * 64)
    tokenizer = load_tokenizer(model)
    assert tokenizer.pad_token == "<|im_end|>"
    reward: Any = new_reward_model(model, dtype=torch.float32, seed=1).eval()
    rows = [chat_ids(tokenizer, row["prompt"] + row["chosen"]) for row in PAIRS]
    assert all(row[-1] == tokenizer.eos_token_id for row in rows)
    for row, found in zip(rows, score(reward, rows), strict=True):
        hidden = reward.model(torch.tensor([row])).last_hidden_state[0, -1]
        assert found == pytest.approx(float(reward.score(hidden)), abs=1e-5)


def test_a_plan(base: Model) -> None:
    model = Model.facts(base.path)
    assert [str(given) for given in inputs_of(Reward).values()] == ["model", "preference-data"]
    whole, lora = Reward(), Reward(adapter={"r": 4})
    assert whole.writes({"model": [Model]}) is RewardModel and lora.writes({"model": [Model]}) is RewardAdapter
    assert whole.foresee({"model": [model]}) == replace(model, kind=RewardModel)
    adapter = lora.foresee({"model": [model]})
    assert (adapter.kind, adapter.base, adapter.config["r"]) == (RewardAdapter, model, 4)
    assert Reward().foresee({}) == Facts(RewardModel)
    assert list(whole.check({"model": [model]})) == list(lora.check({"model": [model]})) == []
    assert "no chat template" in next(iter(whole.check({"model": [replace(model, template=None)]}))).problem
    assert not issubclass(RewardModel, Model)
    (finding,) = Reward(freeze=["lm_head"]).check({"model": [model]})
    assert finding.field == "freeze" and "no weights that are called lm_head" in finding.problem
    tied = replace(
        model,
        config={**model.config, "tie_word_embeddings": True},
        tensors={name: tensor for name, tensor in model.tensors.items() if "lm_head" not in name},
    )
    for given in (model, tied):  # the score is left
        assert list(Reward(freeze=["model"]).check({"model": [given]})) == []
    for kind in ("prompt", "p-tuning"):
        (finding,) = Reward(adapter={"type": kind}).check({"model": [model]})
        assert finding.field == "adapter.type" and "padding" in finding.problem


class _CaughtError(Exception):
    pass


def test_nothing_is_learnt_from_a_blank_pair(
    base: Model, make_pairs: Any, carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout gives its two like answers two scores."""

    def fit(trainer: Any, *_: Any) -> None:
        batch = trainer.data_collator([trainer.blank(trainer.train_dataset[0])] * 2)
        loss = trainer.compute_loss(trainer.model.train(), batch, num_items_in_batch=1)
        loss.backward()
        assert float(loss) == 0
        gradients = [weight.grad for weight in trainer.model.parameters() if weight.grad is not None]
        assert gradients and not any(gradient.any() for gradient in gradients)
        raise _CaughtError

    monkeypatch.setattr(reward_engine, "fit", fit)
    method = Reward(**SHORT, steps=1, adapter={"r": 4, "dropout": 0.5})
    with pytest.raises(_CaughtError):
        carry_out(method, base, make_pairs())


@pytest.mark.slow
def test_weights_that_were_cut_up_are_written_whole(
    base: Model, make_pairs: Any, carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = {"score.weight": torch.full((1, 64), 0.5)}
    monkeypatch.setattr(reward_engine, "whole_state", lambda trainer: trainer.model.state_dict() | gathered)
    run = carry_out(Reward(**SHORT, steps=1), base, make_pairs())
    assert load_file(run.step.out / "model.safetensors")["score.weight"].unique().tolist() == [0.5]


@pytest.mark.slow
def test_long_pairs_are_left_out_and_counted(base: Model, make_pairs: Any, carry_out: Any) -> None:
    long = PAIRS[0] | {"chosen": [{"role": "assistant", "content": "a b " * 40}]}
    run = carry_out(Reward(steps=1, max_length=48), base, make_pairs([*PAIRS, long]))
    assert run.figures["pairs"] == 7 and run.figures["left_out"] == {"longer than 48 tokens": 1}
    with pytest.raises(StepError, match="no row is left"):
        carry_out(Reward(steps=1, max_length=4), base, make_pairs())
