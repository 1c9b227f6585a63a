"""Methods that learn from answers of the model's own: that rewards rise, and what is held on to meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trl.colours import CHATS, PROMPTS
from tests.trl.test_resume import killed_at
from tuneforge import Model, StepError
from tuneforge.inputs import inputs_of
from tuneforge.kit.chats import prompt_ids, terminator, tokenize_chat
from tuneforge.kit.models import load_tokenizer
from tuneforge_trl.online.grpo import Grpo
from tuneforge_trl.online.online_dpo import OnlineDpo
from tuneforge_trl.online.rloo import Rloo
from tuneforge_trl.reward import Reward
from tuneforge_trl.sft import Sft

LORA = {"type": "lora", "r": 8}
EXACT = {"type": "exact"}
SHORT = {"batch_size": 28, "num_generations": 4, "max_new_tokens": 8, "rewards": [EXACT], "samples": 0}
MANY = SHORT | {
    "batch_size": 112,
    "num_generations": 16,
    "learning_rate": 2e-3,
    "schedule": "constant",
    "warmup": 0.2,
}
KINDS: dict[str, type[Grpo] | type[Rloo]] = {"grpo": Grpo, "rloo": Rloo}


@pytest.fixture(scope="module")
def begun(base: Model, make_chats: Any, carry_out: Any) -> Any:
    """A model that has begun to learn the colours, and knows some of them."""
    return carry_out(Sft(steps=45, batch_size=7, learning_rate=5e-3), base, make_chats())


@pytest.fixture(scope="module")
def adapter(begun: Any, make_chats: Any, carry_out: Any) -> Any:
    return carry_out(Sft(steps=2, batch_size=7, learning_rate=1e-3, adapter=LORA), begun.result, make_chats())


def told(run: Any, name: str) -> list[float]:
    """A figure after each step at which it was told."""
    figures = (event["figures"] for event in run.events if event["event"] == "progress")
    return [each[name] for each in figures if name in each]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_answers_with_a_higher_reward_become_likelier(name: str, begun: Any, make_prompts: Any, carry_out: Any) -> None:
    method = KINDS[name](**MANY, steps=14, beta=0.01, evaluate_every=7)
    run = carry_out(method, begun.result, make_prompts(held_out=PROMPTS))
    rewards = told(run, "reward")
    assert len(rewards) == 14
    assert rewards[0] < 0.4
    assert sum(rewards[-3:]) / 3 > rewards[0] + 0.12
    assert told(run, "reward_exact") == rewards
    assert run.figures["eval_reward"] == run.figures["eval_reward_exact"] >= 0.8
    for figure in ("entropy", "answer_tokens", "no_signal"):
        assert len(told(run, figure)) == 14
    assert (run.figures["prompts"], run.figures["eval_prompts"], run.figures["steps"]) == (7, 7, 14)
    # To begin with, the model is the reference: had it another one, it would be away from it.
    assert told(run, "kl")[0] == pytest.approx(0, abs=1e-5)
    assert told(run, "kl")[-1] > 0.001


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("grpo", "new"),
        ("rloo", "continued"),
        pytest.param("grpo", "continued", marks=pytest.mark.whole),
        pytest.param("rloo", "new", marks=pytest.mark.whole),
    ],
)
def test_an_adapter_is_held_to_what_it_was(
    name: str, kind: str, begun: Any, adapter: Any, make_prompts: Any, carry_out: Any
) -> None:
    model = adapter.result if kind == "continued" else begun.result
    method = KINDS[name](**SHORT, steps=3, learning_rate=1e-2, beta=0.01, adapter=LORA if kind == "new" else None)
    run = carry_out(method, model, make_prompts())
    assert told(run, "kl")[0] == pytest.approx(0, abs=1e-5)
    assert abs(told(run, "kl")[-1]) > 1e-4
    assert run.step.base == begun.result.digest
    before, after = (load_file(each.step.out / "adapter_model.safetensors") for each in (adapter, run))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    if kind == "continued":
        assert run.files().keys() == adapter.files().keys()
        assert run.figures["trainable_parameters"] == adapter.figures["trainable_parameters"]
        assert run.figures["total_parameters"] == adapter.figures["total_parameters"]


@pytest.mark.slow
def test_prompts_are_those_that_were_tuned_on(begun: Any, make_prompts: Any, carry_out: Any, monkeypatch: Any) -> None:
    """The tokens that answers are drawn to, and the one that they end at, are SFT's to the last."""
    from tuneforge_trl.online import grpo_engine

    drawn: list[dict[str, Any]] = []
    original = grpo_engine._Trainer._compute_loss

    def spy(self: Any, model: Any, inputs: Any) -> Any:
        drawn.append(inputs)
        assert self.eos_token_ids == self.generation_config.eos_token_id
        assert terminator(self.processing_class) in self.eos_token_ids
        return original(self, model, inputs)

    monkeypatch.setattr(grpo_engine._Trainer, "_compute_loss", spy)
    run = carry_out(Grpo(**SHORT, steps=1), begun.result, make_prompts())
    tokenizer = load_tokenizer(begun.result)
    tuned = [tokenize_chat(tokenizer, chat["messages"]).ids for chat in CHATS]
    asked, right = set(), 0
    for batch in drawn:
        for index in range(len(batch["prompt_ids"])):
            prompt = batch["prompt_ids"][index][batch["prompt_mask"][index] == 1].tolist()
            answer = batch["completion_ids"][index][batch["completion_mask"][index] == 1].tolist()
            asked.add(tuple(prompt))
            # What the template writes after the terminator, a line break, is learnt by nobody.
            right += any(row[: len(prompt) + len(answer)] == [*prompt, *answer] for row in tuned)
    assert asked == {tuple(prompt_ids(tokenizer, row["prompt"])) for row in PROMPTS}
    assert right == pytest.approx(28 * told(run, "reward")[0])
    assert right
    assert told(run, "answer_tokens")[0] < 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "grpo", "adapter": LORA, "beta": 0.1},
        # Checkpoints lie between two rounds of answers.
        {"kind": "grpo", "generation_batch_size": 28, "num_iterations": 2, "batch_size": 14},
        pytest.param({"kind": "rloo", "adapter": LORA}, marks=pytest.mark.whole),
        pytest.param({"kind": "online_dpo", "batch_size": 7}, marks=pytest.mark.whole),
    ],
    ids=["lora", "reuse", "rloo", "online-dpo"],
)
def test_killed_and_started_again(
    options: dict[str, Any], begun: Any, make_prompts: Any, carry_out: Any, tmp_path: Path
) -> None:
    options = dict(options)
    kind = {**KINDS, "online_dpo": OnlineDpo}[options.pop("kind")]
    common = dict(SHORT)
    if kind is OnlineDpo:
        del common["num_generations"]
    method: Any = kind(**common | options, steps=9, learning_rate=3e-3, save_every=5, log_every=1, evaluate_every=3)
    data = make_prompts(held_out=PROMPTS[:4])
    wanted = carry_out(method, begun.result, data)
    killed_at(7, tmp_path, method, begun.result, data, carry_out)
    resumed = carry_out(method, begun.result, data, tmp_path)
    assert resumed.log[0] == "resuming after step 5"
    assert resumed.losses == wanted.losses[5:]
    assert told(resumed, "entropy") == told(wanted, "entropy")[5:]
    assert resumed.files() == wanted.files()
    assert resumed.figures == wanted.figures


@pytest.mark.slow
def test_the_split_of_a_batch_does_not_matter(begun: Any, make_prompts: Any, carry_out: Any) -> None:
    pairs: dict[str, Any] = {name: value for name, value in SHORT.items() if name != "num_generations"}
    for method in (Grpo(**SHORT), Rloo(**SHORT), OnlineDpo(**pairs | {"batch_size": 14})):
        rows = method.batch_size
        runs = [
            carry_out(
                method.model_copy(update={"epochs": 2.0, "learning_rate": 1e-3, "micro_batch_size": micro}),
                begun.result,
                make_prompts(),
            )
            for micro in (rows, 7)
        ]
        assert told(runs[1], "reward") == told(runs[0], "reward")
        assert runs[1].losses == pytest.approx(runs[0].losses, abs=1e-4)
        assert told(runs[1], "entropy") == pytest.approx(told(runs[0], "entropy"), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"loss": "cispo", "scale_rewards": "none", "temperature": 0.9, "top_p": 0.9, "top_k": 50},
        {
            "loss": "grpo",
            "importance_sampling": "sequence",
            "epsilon": 0.1,
            "epsilon_high": 0.3,
            "mask_truncated": True,
        },
        pytest.param({"loss": "dr_grpo"}, marks=pytest.mark.whole),
        pytest.param({"loss": "sapo", "scale_rewards": "batch"}, marks=pytest.mark.whole),
    ],
    ids=lambda options: options["loss"],
)
def test_other_losses(options: dict[str, Any], begun: Any, make_prompts: Any, carry_out: Any) -> None:
    method = Grpo(**SHORT | {"batch_size": 14, "generation_batch_size": 28}, **options, steps=16, learning_rate=1e-3)
    run = carry_out(method, begun.result, make_prompts())
    rewards = told(run, "reward")
    assert len(rewards) == 8, "there is one at each round of answers"
    before, after = (load_file(each.step.out / "model.safetensors") for each in (begun, run))
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_several_rewards_are_weighted_and_told_by_their_names(
    begun: Any, make_prompts: Any, make_pairs: Any, carry_out: Any, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.py"
    scores.write_text("def brief(answer, prompt): return 1 / (1 + len(answer)) if prompt[0]['role'] == 'user' else 0\n")
    rewards = [
        EXACT | {"weight": 2.0},
        {"type": "regex", "pattern": "[a-z]+", "name": "word", "whole": True},
        {"type": "json-schema", "json_schema": {"type": "object"}},
        {"type": "length", "least": 1, "most": 3, "slack": 2},
        {"type": "function", "function": f"{scores}:brief", "weight": -1.0},
    ]
    judge = carry_out(Reward(steps=2, batch_size=7, adapter=LORA), begun.result, make_pairs()).result
    method = Grpo(**SHORT | {"rewards": rewards}, steps=2, reward_model_weight=0.5)
    run = carry_out(method, begun.result, make_prompts(held_out=PROMPTS), more={"reward_model": judge})
    names = {"exact": 2, "word": 1, "json_schema": 1, "length": 1, "brief": -1, "model": 0.5}
    for prefix, figures in (
        ("", [told(run, name)[0] for name in ("reward",)]),
        ("eval_", [run.figures["eval_reward"]]),
    ):
        each = {
            name: told(run, f"reward_{name}")[0] if not prefix else run.figures[f"eval_reward_{name}"] for name in names
        }
        assert sum(names[name] * value for name, value in each.items()) == pytest.approx(figures[0], abs=1e-5)
        assert each["model"] != 0 and each["json_schema"] == 0 and each["length"] > 0


@pytest.mark.slow
def test_numbers_are_compared(begun: Any, make_prompts: Any, carry_out: Any) -> None:
    rows = [row | {"reference": f"#### {number}"} for number, row in enumerate(PROMPTS)]
    run = carry_out(
        Grpo(**SHORT | {"rewards": [{"type": "number", "tolerance": 0.1}]}, steps=1),
        begun.result,
        make_prompts([*rows, PROMPTS[0]]),
    )
    assert run.figures["left_out"] == {"whose reference has no number, for the reward number": 1}
    assert told(run, "no_signal") == [1.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "def score(answer): return 1 / 0",
            "the reward score raised ZeroDivisionError: division by zero on the prompt",
        ),
        (
            "def score(answer): return None",
            "the reward score raised TypeError: it gave None, which is no number on the",
        ),
        ("def score(answer): return float('nan')", "the reward score gave nan on the prompt"),
    ],
)
def test_a_reward_that_fails_names_itself_and_the_answer(
    code: str, problem: str, begun: Any, make_prompts: Any, carry_out: Any, tmp_path: Path
) -> None:
    (tmp_path / "scores.py").write_text(code)
    method = Grpo(**SHORT | {"rewards": [{"type": "function", "function": f"{tmp_path / 'scores.py'}:score"}]}, steps=1)
    with pytest.raises(StepError) as error:
        carry_out(method, begun.result, make_prompts())
    assert error.value.finding.problem.startswith(problem)
    asked = [row["prompt"][0]["content"] for row in PROMPTS]
    assert any(f"on the prompt {text!r} and the answer '" in error.value.finding.problem for text in asked)


@pytest.mark.slow
def test_a_training_goes_on_as_if_it_had_not_been_measured(begun: Any, make_prompts: Any, carry_out: Any) -> None:
    data = make_prompts(held_out=PROMPTS[:4])
    common = SHORT | {"steps": 4, "learning_rate": 1e-3, "keep": "last", "evaluate_every": 0}
    plain = carry_out(Grpo(**common), begun.result, data)
    watched = carry_out(Grpo(**common | {"evaluate_every": 2, "samples": 2}), begun.result, data)
    assert watched.files() == plain.files()
    assert watched.losses == plain.losses
    assert len(told(watched, "eval_reward")) == 2
    assert told(watched, "eval_reward")[-1] == watched.figures["eval_reward"] == plain.figures["eval_reward"]


@pytest.mark.slow
def test_the_best_on_held_out_prompts_is_kept(begun: Any, make_prompts: Any, carry_out: Any) -> None:
    """What is rewarded in training is what loses the reward on held-out prompts, so the first measurement is best."""
    mistaken = [row | {"reference": "blue"} for row in PROMPTS]
    run = carry_out(
        Grpo(**SHORT, steps=20, learning_rate=1e-3, evaluate_every=2, patience=3),
        begun.result,
        make_prompts(mistaken, PROMPTS[1:]),
    )
    rewards = told(run, "eval_reward")
    best = max(place for place, value in enumerate(rewards) if value == max(rewards))
    assert best < len(rewards) - 1
    assert run.figures["kept_step"] == 2 * (best + 1)
    assert run.figures["eval_reward"] == pytest.approx(rewards[best])
    assert any(f"with the highest held-out reward ({rewards[best]:.4g})" in line for line in run.log)
    if run.figures["steps"] < 20:
        assert "no higher held-out reward for 3 measurements: the training ends here" in run.log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "kind"),
    [("sigmoid", "whole"), ("hinge", "new"), pytest.param("ipo", "continued", marks=pytest.mark.whole)],
)
def test_the_better_of_two_answers_becomes_likelier(
    loss: str, kind: str, begun: Any, adapter: Any, make_prompts: Any, carry_out: Any
) -> None:
    shared = {name: value for name, value in MANY.items() if name != "num_generations"}
    rate = 2e-3 if kind == "whole" else 3e-3
    method = OnlineDpo(
        **shared | {"batch_size": 56, "learning_rate": rate},
        steps=14 if kind == "whole" else 2,
        loss=loss,
        beta=0.1,
        adapter=LORA if kind == "new" else None,
    )
    run = carry_out(method, adapter.result if kind == "continued" else begun.result, make_prompts(held_out=PROMPTS))
    rewards = told(run, "reward")
    if kind == "whole":
        assert sum(rewards[-3:]) / 3 > rewards[0] + 0.06
        assert run.figures["eval_reward"] >= 0.8
    undecided = told(run, "no_signal")[0]
    # To begin with, the model is the reference, and pairs that are equally good count for nothing.
    first = {"sigmoid": 0.6931, "hinge": 1.0, "ipo": 25.0}[loss]
    assert run.losses[0] == pytest.approx((1 - undecided) * first, abs=1e-3)
    assert told(run, "kl")[0] == pytest.approx(0, abs=1e-5)
    assert told(run, "reward_margin")[0] == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_prompts_without_room_for_an_answer_are_left_out(begun: Any, make_prompts: Any, carry_out: Any) -> None:
    long = PROMPTS[0] | {"prompt": [{"role": "user", "content": "sky " * 60}]}
    run = carry_out(Grpo(**SHORT, steps=1, max_length=64), begun.result, make_prompts([*PROMPTS, long]))
    assert run.figures["left_out"] == {"longer than 56 tokens, which leaves no room for an answer": 1}


@pytest.mark.slow
def test_nothing_is_printed(begun: Any, make_prompts: Any, carry_out: Any, capfd: pytest.CaptureFixture[str]) -> None:
    carry_out(Grpo(**SHORT, steps=1, gradient_checkpointing=True), begun.result, make_prompts(held_out=PROMPTS))
    assert capfd.readouterr().out == ""


def test_what_cannot_be_is_found_by_the_plan() -> None:
    from tuneforge import Adapter, Facts

    def found(**options: Any) -> list[tuple[str, str]]:
        known = options.pop("facts", {})
        return [(finding.field, finding.problem) for finding in Grpo(rewards=[EXACT], **options).check(known)]

    assert found() == []
    assert found(batch_size=20, num_generations=8) == [
        ("batch_size", "batch_size 20 holds no whole number of groups of 8 answers")
    ]
    assert found(batch_size=20, num_generations=8, generation_batch_size=40) == []
    assert found(batch_size=16, num_generations=8, generation_batch_size=24) == [
        ("generation_batch_size", "generation_batch_size 24 is no multiple of batch_size 16")
    ]
    assert found(batch_size=16, num_generations=3, generation_batch_size=32) == [
        ("generation_batch_size", "generation_batch_size 32 holds no whole number of groups of 3 answers")
    ]
    assert [field for field, _ in found(adapter={"type": "prefix"})] == ["adapter.type"]
    soft = Facts(Adapter, {"peft_type": "PROMPT_TUNING"}, base=Facts(Model))
    assert [field for field, _ in found(facts={"model": [soft]})] == ["adapter.type"]
    assert (
        "liger",
        "liger replaces the forward pass by which the probabilities of answers are computed here",
    ) in found(liger=True)
    assert found(reward_model_weight=2) == [
        ("reward_model_weight", "reward_model_weight is of a reward_model, and there is none")
    ]
    small = Facts(Model, {"max_position_embeddings": 128})
    assert found(facts={"model": [small]}) == [
        ("max_new_tokens", "max_new_tokens 256 leaves no room for a prompt in 128 tokens")
    ]
    large = Facts(Model, {"max_position_embeddings": 32768})
    assert found(max_new_tokens=5000, facts={"model": [large]}) == [
        ("max_new_tokens", "max_new_tokens 5000 leaves no room for a prompt in 4096 tokens")
    ]
    assert found(max_new_tokens=5000, max_length=8000, facts={"model": [large]}) == []
    assert found(loss="cispo", epsilon=0.1, epsilon_high=4.0) == [("epsilon", "cispo does not look at epsilon")]
    assert [field for field, _ in found(loss="sapo", epsilon=0.1, epsilon_high=4.0)] == ["epsilon", "epsilon_high"]
    assert [field for field, _ in found(loss="dapo", importance_sampling="sequence")] == ["loss"]
    assert [field for field, _ in found(adapter={"type": "lora", "dropout": 0.1})] == ["adapter.dropout"]


@pytest.mark.parametrize("method", [Grpo, Rloo, OnlineDpo])
def test_the_kinds_of_its_inputs(method: Any) -> None:
    assert {name: str(given) for name, given in inputs_of(method).items()} == {
        "model": "model or adapter",
        "data": "prompt-data",
        "reward_model": "reward-model or reward-adapter",
    }
    assert not inputs_of(method)["reward_model"].required
    assert [strategy.name for strategy in method.strategies] == ["ddp"]


def test_that_processes_draw_other_answers_is_told() -> None:
    from tuneforge.launch.options import Launch
    from tuneforge_trl.spread.strategies import Ddp

    (finding,) = Grpo(rewards=[EXACT]).check_launch(Launch(2, 1, Ddp()), {})
    assert finding.level == "warning" and finding.problem.startswith("2 processes draw other answers than one")
    found = list(Grpo(rewards=[EXACT], batch_size=7, num_generations=7).check_launch(Launch(2, 1, Ddp()), {}))
    assert [each.field for each in found if each.level == "error"] == ["batch_size"]
