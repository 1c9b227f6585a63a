"""A student with half of the layers learns what its teacher says."""

from __future__ import annotations

import json
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import GenerationMixin

from tests.journeys.conftest import REPOSITORY
from tests.trl.colours import CHATS
from tests.trl.test_resume import assert_resumed, killed_at
from tuneforge import Adapter, Facts, Model, StepError
from tuneforge.kit.chats import terminator
from tuneforge.kit.models import load_model, load_tokenizer, save_model
from tuneforge.plan import make_plan
from tuneforge.recipe import read_recipe
from tuneforge_models import fresh
from tuneforge_registry import Registry
from tuneforge_trl import distill_engine
from tuneforge_trl.distill import Distill
from tuneforge_trl.sft import Sft

LORA = {"type": "lora", "r": 8}
SHORT = {"batch_size": 7, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def teacher(whole: Any) -> Model:
    found: Model = whole.result
    return found


@pytest.fixture(scope="module")
def student(teacher: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The teacher without its second layer."""
    model: Any = load_model(teacher, dtype=torch.float32)
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers = 1
    folder = tmp_path_factory.mktemp("student")
    save_model(model, teacher.path, folder, torch.float32)
    return Model(folder, "5" * 64)


def divergence(student: Model, teacher: Model, rows: Dataset, beta: float, temperature: float = 1.0) -> float:
    """The mean over all tokens of the answers, by its definition."""
    models = [load_model(given, dtype=torch.float32) for given in (student, teacher)]
    found = []
    for row in rows:
        labels = torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            ps, pt = (
                torch.log_softmax(model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1] / temperature, -1)
                for model in models
            )
        between = torch.logaddexp(ps + math.log(1 - beta), pt + math.log(beta)) if 0 < beta < 1 else None

        def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
            return (p.exp() * (p - q)).sum(-1)

        if between is None:
            each = kl(pt, ps) if beta == 0 else kl(ps, pt)
        else:
            each = beta * kl(pt, between) + (1 - beta) * kl(ps, between)
        found.append(each[labels != -100])
    return float(torch.cat(found).mean())


@pytest.mark.parametrize(
    ("beta", "temperature"),
    [
        pytest.param(0.0, 1.0, marks=pytest.mark.whole),
        pytest.param(0.3, 2.0, marks=pytest.mark.slow),
        pytest.param(1.0, 1.0, marks=pytest.mark.whole),
    ],
)
def test_the_first_loss_is_the_divergence_of_the_answers_of_the_data(
    beta: float, temperature: float, student: Model, teacher: Model, make_chats: Any, carry_out: Any
) -> None:
    method = Distill(**SHORT, steps=1, beta=beta, temperature=temperature, on_policy=0.0, samples=0)
    run = carry_out(method, student, make_chats(), more={"teacher": teacher})
    rows = Dataset.from_file(str(run.step.scratch / "rows" / "train.arrow"))
    assert run.losses[0] == pytest.approx(divergence(student, teacher, rows, beta, temperature), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole", "new"])
def test_the_student_comes_closer_to_its_teacher(
    kind: str, student: Model, teacher: Model, make_chats: Any, carry_out: Any
) -> None:
    rate = 5e-3 if kind == "whole" else 2e-2
    method = Distill(
        **SHORT, steps=30, on_policy=0.5, beta=0.5, learning_rate=rate, adapter=LORA if kind == "new" else None
    )
    run = carry_out(method, student, make_chats(held_out=CHATS), more={"teacher": teacher})
    rows = Dataset.from_file(str(run.step.scratch / "rows" / "held_out.arrow"))
    before = divergence(student, teacher, rows, 0.5)
    assert run.figures["eval_loss"] < 0.25 * before
    after = divergence(run.result, teacher, rows, 0.5)
    assert after == pytest.approx(run.figures["eval_loss"], rel=0.1)
    assert (run.figures["rows"], run.figures["eval_rows"], run.figures["steps"]) == (7, 7, 30)
    assert run.step.base == (student.digest if kind == "new" else None)
    told = [event["figures"] for event in run.events if event["event"] == "progress"]
    assert all(figures["entropy"] > 0 and 1 <= figures["answer_tokens"] <= 6 for figures in told)


@pytest.mark.whole
def test_adapters_on_both_sides(base: Model, teacher: Model, make_chats: Any, carry_out: Any, tmp_path: Path) -> None:
    """An adapter from SFT is trained on, and one may be the teacher."""
    begun = carry_out(Sft(steps=3, batch_size=7, learning_rate=1e-2, adapter=LORA), base, make_chats()).result
    good = carry_out(Sft(steps=40, batch_size=7, learning_rate=2e-2, adapter=LORA), base, make_chats()).result
    method = Distill(**SHORT, steps=10, on_policy=0.0, beta=0.0, learning_rate=1e-2)
    run = carry_out(method, begun, make_chats(held_out=CHATS), more={"teacher": good})
    assert isinstance(run.result, Adapter) and run.step.base == base.digest
    assert run.figures["eval_loss"] < 0.5 * run.losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole", "continued"])
def test_answers_end_at_the_stop_tokens_of_the_model(
    kind: str, base: Model, make_chats: Any, carry_out: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    other = 7
    folder = tmp_path / "model"
    shutil.copytree(base.path, folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [other]}))
    model = Model(folder, "7" * 64)
    given: Any = model
    if kind == "continued":
        given = carry_out(Sft(steps=1, batch_size=7, adapter=LORA), model, make_chats()).result
    seen: list[list[int]] = []
    original = distill_engine._Trainer._generate_single_turn

    def spy(self: Any, *args: Any, **named: Any) -> Any:
        seen.append(self.eos_token_ids)
        assert self.generation_config.eos_token_id == self.eos_token_ids
        return original(self, *args, **named)

    monkeypatch.setattr(distill_engine._Trainer, "_generate_single_turn", spy)
    carry_out(Distill(**SHORT, steps=1, on_policy=1.0, samples=0), given, make_chats(), more={"teacher": model})
    tokenizer = load_tokenizer(model)
    assert sorted(seen[0]) == sorted({other, tokenizer.eos_token_id, terminator(tokenizer)})


@pytest.mark.slow
def test_answers_of_its_own_are_written_without_dropout(
    student: Model, teacher: Model, make_chats: Any, carry_out: Any, monkeypatch: Any
) -> None:
    seen: list[tuple[str, bool]] = []
    generate, loss = GenerationMixin.generate, distill_engine._Trainer._compute_loss

    def spy(self: Any, *args: Any, **named: Any) -> Any:
        seen.append(("answers", drops(self)))
        return generate(self, *args, **named)

    def drops(model: torch.nn.Module) -> bool:
        (active,) = {module.training for module in model.modules() if isinstance(module, torch.nn.Dropout)}
        return active

    def learns(self: Any, model: Any, *args: Any, **named: Any) -> Any:
        seen.append(("learns", drops(model)))
        return loss(self, model, *args, **named)

    monkeypatch.setattr(GenerationMixin, "generate", spy)
    monkeypatch.setattr(distill_engine._Trainer, "_compute_loss", learns)
    method = Distill(**SHORT, steps=2, samples=0, adapter={**LORA, "dropout": 0.5})
    carry_out(method, student, make_chats(), more={"teacher": teacher})
    assert seen == [("answers", False), ("learns", True)] * 2


@pytest.mark.slow
def test_rows_that_the_teacher_cannot_read_are_left_out_and_counted(
    student: Model, teacher: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    method = Distill(**SHORT, steps=1, on_policy=0.0, samples=0)
    run = carry_out(method, student, make_chats(), more={"teacher": teacher})
    lengths = sorted(map(len, Dataset.from_file(str(run.step.scratch / "rows" / "train.arrow"))["input_ids"]))
    fit = [length for length in lengths if length < lengths[-1]]
    shutil.copytree(teacher.path, tmp_path / "teacher")
    path = tmp_path / "teacher" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": fit[-1]}))
    narrow = {"teacher": Model(tmp_path / "teacher", "6" * 64)}
    run = carry_out(method, student, make_chats(), more=narrow)
    assert run.figures["rows"] == len(fit)
    assert run.figures["left_out"] == {"longer than the teacher's context": len(lengths) - len(fit)}


@pytest.mark.slow
def test_killed_and_started_again(
    student: Model, teacher: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    """In its second epoch, after steps of both kinds of answers."""
    method = Distill(
        batch_size=2, micro_batch_size=1, max_new_tokens=6, epochs=2, on_policy=0.5, learning_rate=1e-3, save_every=5
    )
    run = partial(carry_out, more={"teacher": teacher})
    wanted = run(method, student, make_chats(held_out=CHATS[:2]))
    killed_at(6, tmp_path, method, student, make_chats(held_out=CHATS[:2]), run)
    assert_resumed(run(method, student, make_chats(held_out=CHATS[:2]), tmp_path), wanted, after=5)


@pytest.mark.whole
def test_the_split_of_a_batch_does_not_matter(student: Model, teacher: Model, make_chats: Any, carry_out: Any) -> None:
    runs = [
        carry_out(
            Distill(**SHORT, steps=4, micro_batch_size=micro, learning_rate=1e-3, samples=0),
            student,
            make_chats(),
            more={"teacher": teacher},
        )
        for micro in (1, 7)
    ]
    assert runs[0].losses == pytest.approx(runs[1].losses, rel=1e-3)


@pytest.mark.slow
def test_another_vocabulary_is_refused(student: Model, make_chats: Any, carry_out: Any, tmp_path: Path) -> None:
    tokenizer = fresh.make_tokenizer(["other words in another order"], 300)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "layers": 1, "heads": 4, "kv_heads": 2, "context": 256}
    fresh.save(
        fresh.make_model("llama", tokenizer, **sizes, tied=False, dtype=torch.bfloat16, seed=1), tokenizer, tmp_path
    )
    other = Model(tmp_path, "0" * 64)
    with pytest.raises(StepError, match="different vocabularies"):
        carry_out(Distill(**SHORT, steps=1), student, make_chats(), more={"teacher": other})
    found = list(Distill().check({"model": [Model.facts(student.path)], "teacher": [Model.facts(tmp_path)]}))
    assert "different vocabularies" in found[0].problem


def problems(options: dict[str, Any], **facts: Any) -> list[str]:
    found = Distill(**options).check({name: [given] for name, given in facts.items()})
    return [finding.problem for finding in found if finding.level == "error"]


def test_what_is_refused_before_anything_runs() -> None:
    def model(**config: Any) -> Facts:
        return Facts(Model, {"max_position_embeddings": 512, **config}, template="{{ messages }}")

    assert problems({}, model=model(vocab_size=9), teacher=model()) == []
    (found,) = problems({"max_new_tokens": 64}, model=model(vocab_size=9), teacher=model(vocab_size=10))
    assert "different vocabularies" in found
    (found,) = problems({"max_new_tokens": 512}, model=model())
    assert "leaves no room for a prompt" in found
    assert not problems({"max_new_tokens": 512, "on_policy": 0.0}, model=model())
    (found,) = problems({"max_new_tokens": 512}, model=model(max_position_embeddings=2048), teacher=model())
    assert "in the 512 tokens that the model and its teacher can both read" in found
    prefix = Facts(Adapter, {"peft_type": "PREFIX_TUNING"}, template="{{ messages }}", base=model())
    assert "the teacher is an adapter before the text" in problems({}, model=model(), teacher=prefix)[0]
    assert "the model is an adapter before the text" in problems({}, model=prefix, teacher=model())[0]
    (found,) = problems({"adapter": {"type": "prompt"}}, model=model(), teacher=model())
    assert "prompt adapters stand before the text" in found
    head = {"adapter": {"type": "lora", "target_modules": ["q_proj", "lm_head"]}}
    assert "an adapter on the output head" in " ".join(problems(head, model=model(), teacher=model()))
    begun = Facts(
        Adapter, {"peft_type": "LORA", "target_modules": ["lm_head"]}, template="{{ messages }}", base=model()
    )
    (found,) = problems({}, model=begun, teacher=model())
    assert "the model is an adapter with a part on the output head" in found


def test_the_recipe_is_planned_without_a_word(tmp_path: Path) -> None:
    plan = make_plan(read_recipe(REPOSITORY / "recipes" / "distill.yaml"), Registry(tmp_path))
    assert [str(finding) for finding in plan.findings] == []
