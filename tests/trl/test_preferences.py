"""What the methods of preferences do to a model, and what they keep in memory for it."""

from __future__ import annotations

import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, MixtralConfig, MixtralForCausalLM

from tests.trl.colours import COLOURS, PAIRS
from tests.trl.test_resume import killed_at
from tests.tuned import answers
from tuneforge import Adapter, Facts, Model, PreferenceData
from tuneforge.inputs import inputs_of
from tuneforge.kit.models import load_model
from tuneforge.launch.options import Launch
from tuneforge.plan import make_plan
from tuneforge.recipe import read_recipe
from tuneforge_registry import Registry
from tuneforge_trl import loading, register_align
from tuneforge_trl.preferences import engine, precompute
from tuneforge_trl.preferences.cpo import Cpo
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.preferences.kto import Kto
from tuneforge_trl.preferences.losses import DPO
from tuneforge_trl.preferences.orpo import Orpo
from tuneforge_trl.preferences.simpo import Simpo
from tuneforge_trl.rows.feedback import beside_others
from tuneforge_trl.sft import Sft
from tuneforge_trl.spread.strategies import Fsdp

LORA = {"type": "lora", "r": 8}
STEPS: dict[str, Any] = {"epochs": 6, "batch_size": 7, "learning_rate": 3e-4}
MANNERS = [
    {**pair, "rejected": [{"role": "assistant", "content": f"It is {colour}."}]}
    for pair, colour in zip(PAIRS, COLOURS.values(), strict=True)
]
"""What the model knows, against the same in another style."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [Dpo(**STEPS), Kto(**STEPS), Orpo(**STEPS), Cpo(**STEPS), Simpo(**STEPS)],
    ids=lambda method: str(method.name),
)
def test_the_chosen_style_gains_and_the_task_is_kept(method: Any, whole: Any, make_pairs: Any, carry_out: Any) -> None:
    before = carry_out(
        method.model_copy(update={"steps": 1, "learning_rate": 1e-12}), whole.result, make_pairs(MANNERS, MANNERS)
    )
    after = carry_out(method, whole.result, make_pairs(MANNERS, MANNERS))
    assert after.figures["eval_loss"] < before.figures["eval_loss"]
    assert after.figures["eval_reward_margin"] > before.figures["eval_reward_margin"] + 0.1
    assert after.figures["eval_reward_accuracy"] == 1
    gain = {run: run.figures["eval_chosen_logps"] - run.figures["eval_rejected_logps"] for run in (before, after)}
    assert gain[after] > gain[before] + 1
    known = answers(load_model(after.result, dtype=torch.float32), after.result)
    assert known == [*COLOURS.values()], "all of what it knew"


@pytest.mark.whole
@pytest.mark.parametrize("loss", DPO)
def test_every_loss_of_dpo_moves_the_margin(loss: str, whole: Any, make_pairs: Any, carry_out: Any) -> None:
    smoothing = 0.001 if loss == "exo_pair" else 0.0
    named: Any = {loss: 1.0, "sigmoid": 0.1} if loss == "sft" else loss
    run = carry_out(Dpo(**STEPS, loss=named, label_smoothing=smoothing), whole.result, make_pairs(MANNERS, MANNERS))
    assert run.losses[-1] < run.losses[0]
    # Where there is no margin yet, discopop is the smaller the more likely the rejected answer is.
    assert loss == "discopop" or run.figures["eval_reward_margin"] > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("method", [Kto, Orpo], ids=lambda method: str(method.name))
def test_the_split_of_a_batch_does_not_matter(method: Any, base: Model, make_pairs: Any, carry_out: Any) -> None:
    runs = [
        carry_out(method(epochs=2, batch_size=4, micro_batch_size=micro, learning_rate=1e-3), base, make_pairs())
        for micro in (1, 4)
    ]
    assert runs[0].losses == pytest.approx(runs[1].losses, rel=1e-4)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests of all models that are loaded, in their order."""
    seen: list[str] = []

    def noting(artifact: Model | Adapter, **how: Any) -> Any:
        seen.append(artifact.digest[0])
        return load_model(artifact, **how)

    for module in (engine, precompute):
        monkeypatch.setattr(module, "load_model", noting)
    monkeypatch.setattr(loading.load_for_training, "__kwdefaults__", {"task": "CAUSAL_LM", "load": noting})
    return seen


@pytest.fixture(scope="module")
def taught(base: Model, make_chats: Any, carry_out: Any) -> Adapter:
    """An adapter on the base that has begun to learn the colours."""
    method = Sft(steps=20, batch_size=7, learning_rate=1e-2, adapter=LORA)
    return replace(carry_out(method, base, make_chats()).result, digest="a" * 64)


@pytest.mark.slow
def test_no_model_is_loaded_that_need_not_be(
    loaded: list[str], base: Model, taught: Adapter, whole: Any, make_pairs: Any, carry_out: Any
) -> None:
    one: dict[str, Any] = {"steps": 1, "batch_size": 7}
    other = replace(whole.result, digest="d" * 64)
    for method, model, reference, wanted in (
        (Orpo(**one), base, None, "b"),
        (Dpo(**one, reference_free=True), base, None, "b"),
        (Dpo(**one), base, None, "bb"),
        (Kto(**one), base, None, "bb"),
        (Dpo(**one, adapter=LORA), base, None, "b"),
        (Dpo(**one), taught, None, "a"),
        (Dpo(**one), taught, base, "a"),
        (Dpo(**one, adapter=LORA), base, taught, "b"),
        (Dpo(**one, adapter=LORA), base, other, "bd"),
        (Dpo(**one), base, taught, "ba"),
    ):
        loaded.clear()
        carry_out(method, model, make_pairs(), reference=reference)
        assert "".join(loaded) == wanted, (method, wanted)


@pytest.mark.slow
def test_a_reference_is_the_same_wherever_it_is_had(
    base: Model, taught: Adapter, make_pairs: Any, carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the model that is trained, beside it, or computed before."""
    method = Dpo(steps=3, batch_size=7, learning_rate=1e-2, adapter=LORA)
    on_it = carry_out(method, base, make_pairs(held_out=PAIRS), reference=taught)
    first = carry_out(method, base, make_pairs())
    assert abs(on_it.losses[0] - first.losses[0]) > 0.05, "it is another one"
    before = carry_out(
        method.model_copy(update={"precompute": True}), base, make_pairs(held_out=PAIRS), reference=taught
    )
    monkeypatch.setattr(engine, "place", lambda model, reference, adapted: reference)
    beside = carry_out(method, base, make_pairs(held_out=PAIRS), reference=taught)
    for run in (before, beside):
        assert run.losses == pytest.approx(on_it.losses, rel=1e-4)
        assert run.figures["eval_loss"] == pytest.approx(on_it.figures["eval_loss"], rel=1e-3)
        assert (
            load_file(run.step.out / "adapter_model.safetensors").keys()
            == load_file(on_it.step.out / "adapter_model.safetensors").keys()
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dpo", pytest.param("kto", marks=pytest.mark.whole)])
def test_what_the_reference_gives_is_computed_once(
    kind: str,
    loaded: list[str],
    base: Model,
    make_pairs: Any,
    carry_out: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crash between its parts, and one in the training, cost none that was done."""
    method = (Dpo if kind == "dpo" else Kto)(steps=6, batch_size=7, learning_rate=1e-3, precompute=True, save_every=4)
    plain = carry_out(method.model_copy(update={"precompute": False}), base, make_pairs(held_out=PAIRS))
    data = make_pairs(held_out=PAIRS)
    monkeypatch.setattr(precompute, "_PART", 3)
    wanted = carry_out(method, base, data)
    assert wanted.losses == pytest.approx(plain.losses, rel=1e-4)
    persist, kept = precompute.persist_name, []

    def killed(path: Path) -> None:
        persist(path)
        kept.append(path)
        if len(kept) == 2:
            os._exit(-signal.SIGKILL % 256)

    with monkeypatch.context() as patch:
        patch.setattr(precompute, "persist_name", killed)
        dying(lambda: carry_out(method, base, data, tmp_path))
    parts = sorted(path.name for path in (tmp_path / "scratch" / "rows").glob("*/*.json"))
    assert parts == ["000000000.json", "000000003.json"]
    killed_at(5, tmp_path, method, base, data, carry_out)
    loaded.clear()
    again = carry_out(method, base, data, tmp_path)
    assert again.log[0] == "resuming after step 4"
    assert loaded == ["b"], "the model that is trained alone"
    assert again.files() == wanted.files()


def dying(work: Any) -> None:
    """Does something in a process of its own, which ends on the way."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1], "it should not have come so far"


@pytest.mark.slow
def test_feedback_in_a_lopsided_share_is_told(base: Model, make_feedback: Any, carry_out: Any) -> None:
    run = carry_out(Kto(steps=1), base, make_feedback())
    assert run.warnings == [
        "answers with a thumb up weigh 2.33 times those with a thumb down (7 and 3 rows); 1 to 1.33 is usual"
    ]
    assert (run.figures["desirable"], run.figures["undesirable"]) == (7, 3)
    assert not carry_out(Kto(steps=1, undesirable_weight=2), base, make_feedback()).warnings


@pytest.mark.slow
def test_a_reference_adapter_is_no_part_of_the_result(
    base: Model, taught: Adapter, make_pairs: Any, carry_out: Any
) -> None:
    run = carry_out(Dpo(steps=1, adapter=LORA), base, make_pairs(), reference=taught)
    assert {path.name for path in run.step.out.iterdir()} == {path.name for path in taught.path.iterdir()}
    assert isinstance(load_model(run.result, dtype=torch.float32), PeftModel)


@pytest.mark.whole
def test_experts_are_kept_in_balance(base: Model, make_pairs: Any, carry_out: Any, tmp_path: Path) -> None:
    """By the loss that a mixture of experts has for it, at the weight that its configuration says."""

    def excess(weight: float) -> float:
        folder = tmp_path / f"mixture-{weight}"
        shutil.copytree(base.path, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
        config = AutoConfig.from_pretrained(base.path)
        sizes = {name: getattr(config, name) for name in ("vocab_size", "hidden_size", "intermediate_size")}
        torch.manual_seed(1)
        mixture = MixtralForCausalLM(
            MixtralConfig(
                **sizes,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                num_local_experts=4,
                max_position_embeddings=256,
                router_aux_loss_coef=weight,
            )
        )
        mixture.save_pretrained(folder)
        run = carry_out(Dpo(steps=1, batch_size=7), Model(folder, "e" * 64), make_pairs())
        return float(run.losses[0] - math.log(2))

    none, some, twice = map(excess, (0.0, 0.02, 0.04))
    assert none == pytest.approx(0, abs=1e-6)
    assert twice == pytest.approx(2 * some, rel=1e-3) and some > 0.01


def test_answers_to_other_prompts() -> None:
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer in ("aA", "aB", "bC", "cD", "cE", "cF")]
    assert [row["other"] for row in beside_others(rows)] == ["C", "C", "D", "A", "B", "A"]
    assert list(beside_others([])) == []


def problems(method: Any, **facts: Any) -> list[str]:
    return [finding.problem for finding in method.check({name: [given] for name, given in facts.items()})]


def test_what_is_asked_for_in_vain_is_found_by_the_plan(base: Model) -> None:
    model = Model.facts(base.path)
    assert [finding.field for finding in Dpo(loss={}).check({})] == ["loss"]
    assert [finding.field for finding in Dpo(loss={"sigmoid": 0}).check({})] == ["loss"]
    assert [finding.field for finding in Dpo(loss="exo_pair").check({})] == ["label_smoothing"]
    assert [finding.field for finding in Dpo(loss="hinge", label_smoothing=0.1).check({})] == ["label_smoothing"]
    assert [finding.field for finding in Dpo(loss="sft").check({})] == ["loss"]
    assert not problems(Dpo(loss={"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1}), model=model, reference=model)
    assert problems(Dpo(reference_free=True, precompute=True), reference=model) == [
        "reference is given, and reference_free says there is none",
        "precompute is given, and reference_free says there is none",
    ]
    assert [finding.field for finding in Kto(precompute=True, adapter={"type": "qlora"}).check({})] == ["precompute"]
    (finding,) = Dpo(precompute=True).check_launch(Launch(2, 1, Fsdp()), {})
    assert finding.field == "precompute"
    pairs = Facts(PreferenceData)
    assert [finding.field for finding in Kto(desirable_weight=2).check({"data": [pairs]})] == ["undesirable_weight"]
    assert not problems(Kto(), data=pairs)


def test_a_reference_that_cannot_be_compared_is_found_by_the_plan(base: Model, tmp_path: Path) -> None:
    model = Model.facts(base.path)
    other = (base.path / "tokenizer.json").read_text().replace('"id": 0,', '"id": 9,', 1)
    (tmp_path / "tokenizer.json").write_text(other)
    for method in (Dpo(), Kto()):
        assert problems(method, model=model, reference=model) == []
        assert problems(method, model=model, reference=replace(model, tokenizer=tmp_path)) == [
            "the reference has another tokenizer than the model: they do not give probabilities to the same tokens"
        ]
        short = replace(model, config={**model.config, "max_position_embeddings": 64})
        assert problems(method, model=model, reference=short) == [
            "rows may have 256 tokens, and the reference's context has 64"
        ]
        assert problems(method.model_copy(update={"max_length": 64}), model=model, reference=short) == []
        assert len(problems(method, model=model, reference=Facts(Model, {"is_encoder_decoder": True}))) == 1
        padded = replace(model, config={**model.config, "vocab_size": 10_000})
        assert problems(method, model=model, reference=padded) == [], "outputs that no token has"


def test_an_adapter_that_losses_would_go_past_is_refused_by_the_plan(base: Model) -> None:
    model = Model.facts(base.path)
    head = Facts(Adapter, {"target_modules": ["q_proj", "lm_head"]}, {}, model.tokenizer, model.template, model)
    for method in (Dpo(), Kto(), Sft()):
        assert problems(method, model=head) == [
            "the model is an adapter with a part on the output head, and losses go by the head's own weights"
        ]
    (found,) = problems(Dpo(), model=model, reference=head)
    assert found.startswith("the reference is an adapter with a part on the output head")


WRONG = """steps:
  base: {{load_model: builtin}}
  rows: {{format: {format}, with: {{path: {rows}}}}}
  wrong: {{align: {method}, model: base, data: rows{more}}}
"""


@pytest.mark.parametrize(
    ("method", "form", "more", "told"),
    [
        ("dpo", "feedback", "", "preference-data"),
        ("orpo", "chat", "", "preference-data"),
        ("simpo", "feedback", "", "preference-data"),
        ("kto", "chat", "", "feedback-data or preference-data"),
        ("kto", "feedback", ", reference: rows", "model or adapter"),
    ],
)
def test_data_of_another_kind_is_refused_by_the_plan(
    method: str, form: str, more: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hi", "completion": "Hello", "label": true}\n')
    text = WRONG.format(format=form, rows=tmp_path / "rows.jsonl", method=method, more=more)
    (tmp_path / "recipe.yaml").write_text(text)
    (tmp_path / "home").mkdir()
    errors = make_plan(read_recipe(tmp_path / "recipe.yaml"), Registry(tmp_path / "home")).errors
    assert len(errors) == 1 and told in str(errors[0])


def test_the_inputs_of_each_method() -> None:
    found = {
        method.name: {name: str(given) for name, given in inputs_of(method).items()} for method in register_align()
    }
    pairs = {"model": "model or adapter", "data": "preference-data"}
    assert found["orpo"] == found["cpo"] == found["simpo"] == pairs
    assert found["dpo"] == {**pairs, "reference": "model or adapter"}
    assert found["kto"] == {**found["dpo"], "data": "feedback-data or preference-data"}
