"""Every type of adapter: trained, written, loaded again, merged, resumed."""

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trl.colours import CHATS, MISTAKEN
from tests.trl.test_resume import assert_resumed, killed_at
from tuneforge import Manner, Model, Step
from tuneforge.kit.models import load_model, load_tokenizer
from tuneforge_chat.engine import Loaded
from tuneforge_evaluate import Generation
from tuneforge_peft.adapter import MergeAdapter
from tuneforge_trl import sft_engine
from tuneforge_trl.adapters import TYPES
from tuneforge_trl.preferences import engine as dpo_engine
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.sft import Sft

pytestmark = pytest.mark.slow

OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {"dropout": 0.1},
    "dora": {"r": 8},
    "rslora": {"r": 8},
    "pissa": {"r": 4},
    "adalora": {"target_r": 2, "init_r": 4},
    "ia3": {},
    "loha": {"r": 4},
    "vera": {"r": 32},
    "oft": {"block_size": 16},
    "prefix": {"tokens": 6},
    "prompt": {"tokens": 6, "text": "What colour has it?"},
    "p-tuning": {"tokens": 6},
    "houlsby": {"reduction_factor": 4, "activation": "gelu"},
    "pfeiffer": {"reduction_factor": 4},
}
ALL = list(OPTIONS)
MERGEABLE = [kind for kind in ALL if TYPES[kind].mergeable]
PROBE = torch.arange(40).reshape(2, 20) * 7 % 300


def options(kind: str) -> dict[str, Any]:
    return {"type": kind, **OPTIONS[kind]}


def rate(kind: str) -> float:
    """A learning rate that shows within a few steps."""
    return 1e-1 if kind == "ia3" else 5e-2 if kind in ("prompt", "vera", "prefix") else 1e-2


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        found: torch.Tensor = model(PROBE).logits
    return found[:, -PROBE.shape[1] :].clone()


@pytest.fixture(scope="module")
def trained(base: Model, make_chats: Any, carry_out: Any) -> Iterator[Callable[[str], Any]]:
    """A training of each type, carried out once; `.logits` are those of the model as it was in memory."""
    runs: dict[str, Any] = {}
    save = sft_engine.save
    seen: list[torch.Tensor] = []

    def watched(trainer: Any, *rest: Any) -> None:
        seen.append(logits(trainer.model))
        save(trainer, *rest)

    sft_engine.save = watched

    def train(kind: str) -> Any:
        if kind not in runs:
            method = Sft(steps=25, batch_size=7, learning_rate=rate(kind), adapter=options(kind))
            run = runs[kind] = carry_out(method, base, make_chats(held_out=CHATS[:3]))
            run.logits = seen.pop()
        return runs[kind]

    yield train
    sft_engine.save = save


def test_all_types_are_here() -> None:
    assert {*ALL, "qlora"} == TYPES.keys()


@pytest.mark.parametrize("kind", ALL)
def test_it_learns_and_is_what_is_loaded_again(kind: str, trained: Any, base: Model) -> None:
    run = trained(kind)
    assert run.losses[-1] < run.losses[0] - 0.2
    assert run.figures["trainable_parameters"] < run.figures["total_parameters"] / 2
    loaded = logits(load_model(run.result, dtype=torch.float32))
    assert float((loaded - run.logits).abs().max()) < (1e-4 if kind == "pissa" else 1e-5)
    assert float((loaded - logits(load_model(base, dtype=torch.float32))).abs().max()) > 0.1
    config = json.loads(run.files()["adapter_config.json"])
    assert config["peft_type"] == TYPES[kind].peft_type
    assert config.pop("base_model_name_or_path") == f"sha256:{base.digest}"
    assert not [value for value in config.values() if isinstance(value, str) and "/" in value]


@pytest.mark.parametrize("kind", ["lora", "prefix", "prompt", "houlsby"])
def test_answers_are_the_same_alone_in_a_batch_and_without_a_cache(kind: str, trained: Any) -> None:
    run = trained(kind)
    tokenizer = load_tokenizer(run.result)
    model: Any = load_model(run.result, dtype=torch.float32)
    texts = [
        tokenizer.apply_chat_template(chat["messages"][:1], tokenize=False, add_generation_prompt=True)
        for chat in (CHATS[0], CHATS[5], CHATS[2])
    ]
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def answers(batch: list[str], **how: Any) -> list[list[int]]:
        given = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False)
        ids = given["input_ids"]
        found = model.generate(
            input_ids=ids, attention_mask=given["attention_mask"], max_new_tokens=6, do_sample=False, **how
        )
        return [row[ids.shape[1] :].tolist() for row in found]

    def forward(text: str) -> list[int]:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        said: list[int] = []
        for _ in range(6):
            with torch.inference_mode():
                said.append(int(model(ids, attention_mask=torch.ones_like(ids)).logits[0, -1].argmax()))
            ids = torch.cat([ids, torch.tensor([said[-1:]])], 1)
            if said[-1] == model.generation_config.eos_token_id:
                break
        return said

    def told(row: list[int]) -> list[int]:
        stop = model.generation_config.eos_token_id
        return row[: row.index(stop) + 1] if stop in row else row

    alone = [forward(text) for text in texts]
    assert len({len(tokenizer(text)["input_ids"]) for text in texts}) > 1
    assert [told(answers([text])[0]) for text in texts] == alone
    assert [told(row) for row in answers(texts)] == alone


@pytest.mark.parametrize("kind", ["lora", "prefix", "prompt", "houlsby"])
def test_it_is_measured_and_talked_to(kind: str, trained: Any, make_chats: Any, tmp_path: Path) -> None:
    run = trained(kind)
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    step = Step("measured", tmp_path / "out", tmp_path / "scratch", seed=1, threads=1, send=lambda event: None)
    Generation(max_new_tokens=6).run(models=[run.result], data=make_chats(held_out=CHATS[:3]), step=step)
    (scores,) = json.loads((step.out / "report.json").read_text())["scores"].values()
    assert math.log(scores["perplexity"]) == pytest.approx(run.figures["eval_loss"], rel=1e-4)
    said = Loaded(run.result, 1, None).reply(CHATS[0]["messages"][:1], Manner(6))
    answers = json.loads(next(step.out.glob("*.jsonl")).read_text().splitlines()[0])
    assert "".join(said).strip() in json.dumps(answers)


@pytest.mark.parametrize("kind", MERGEABLE)
def test_merged_it_computes_the_same(kind: str, trained: Any, tmp_path: Path) -> None:
    run = trained(kind)
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    step = Step("merged", tmp_path / "out", tmp_path / "scratch", seed=1, threads=1, send=lambda event: None)
    MergeAdapter().run(model=run.result, step=step)
    assert step.figures["merge_error"] < 1e-5 * step.figures["largest_logit"]
    merged = logits(load_model(Model(step.out, "d" * 64), dtype=torch.float32))
    # The base is stored in bfloat16.
    assert float((merged - run.logits).abs().max()) < 0.05 * float(run.logits.abs().max())


def test_pissa_is_a_lora_for_the_model_as_it_was(trained: Any, base: Model) -> None:
    run = trained("pissa")
    config = json.loads(run.files()["adapter_config.json"])
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 8, True)
    weights = load_file(run.step.out / "adapter_model.safetensors")
    assert all(weight.shape[0 if "lora_A" in name else 1] == 8 for name, weight in weights.items())
    # Before the first step it is the model itself.
    assert run.losses[0] == pytest.approx(trained("dora").losses[0], abs=1e-5)


def ranks(folder: Path) -> Counter[str]:
    weights = load_file(folder / "adapter_model.safetensors")
    return Counter({name: len(weight) for name, weight in weights.items() if "lora_A" in name})


def test_adalora_ends_with_the_ranks_it_was_to_have(trained: Any) -> None:
    run = trained("adalora")
    found = ranks(run.step.out)
    assert sum(found.values()) == 2 * 14
    # Taken away where they mattered least, which is not everywhere alike.
    assert len(set(found.values())) > 1
    config = json.loads(run.files()["adapter_config.json"])
    assert sorted(config["rank_pattern"].values()) == sorted(found.values())
    assert run.figures["trainable_parameters"] > sum(
        weight.numel() for weight in load_file(run.step.out / "adapter_model.safetensors").values()
    )


def test_adalora_keeps_no_weights_from_before_its_ranks_had_shrunk(
    base: Model, make_chats: Any, carry_out: Any
) -> None:
    """Though the held-out loss is lowest there."""
    method = Sft(steps=12, batch_size=4, learning_rate=5e-2, evaluate_every=1, samples=0, adapter={"type": "adalora"})
    data = make_chats(CHATS, MISTAKEN[:3])
    run = carry_out(method, base, data)
    assert sum(ranks(run.step.out).values()) == 8 * 14
    assert run.figures["kept_step"] >= 9
    stopped = carry_out(method.model_copy(update={"patience": 1}), base, data)
    assert stopped.figures["steps"] > 9 and sum(ranks(stopped.step.out).values()) == 8 * 14


@pytest.mark.parametrize("kind", ["dora", "pissa", "adalora", "vera", "prefix", "p-tuning", "houlsby"])
def test_it_is_trained_on(kind: str, trained: Any, make_chats: Any, carry_out: Any) -> None:
    before = trained(kind)
    after = carry_out(Sft(steps=4, batch_size=7, learning_rate=1e-3), before.result, make_chats())
    assert after.losses[0] < before.losses[0] - 0.2
    assert after.losses[-1] < after.losses[0]
    assert after.files().keys() == before.files().keys()
    assert after.step.base == before.step.base


SLOW_TO_RESUME = [pytest.param(kind, marks=pytest.mark.whole) for kind in ("dora", "rslora", "ia3", "loha", "oft")]


@pytest.mark.parametrize(
    "kind", ["lora", "pissa", "adalora", "vera", "prefix", "prompt", "p-tuning", "houlsby", *SLOW_TO_RESUME]
)
def test_killed_and_started_again(kind: str, base: Model, make_chats: Any, carry_out: Any, tmp_path: Path) -> None:
    packable = TYPES[kind].packable
    method = Sft(
        steps=7,
        batch_size=2,
        learning_rate=rate(kind),
        log_every=1,
        save_every=4,
        packing=packable,
        max_length=48,
        adapter=options(kind),
    )
    wanted = carry_out(method, base, make_chats())
    killed_at(6, tmp_path, method, base, make_chats(), carry_out)
    assert_resumed(carry_out(method, base, make_chats(), tmp_path), wanted, after=4)


@pytest.fixture
def references(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The reference's log-probabilities, chosen rows first, of every batch of every step."""
    seen: list[torch.Tensor] = []
    fit = dpo_engine.fit

    def watched(trainer: Any, *rest: Any) -> None:
        batch = next(iter(trainer.get_train_dataloader()))
        fit(trainer, *rest)
        trainer.model.eval()
        seen.append(trainer.reference_logps(batch))

    monkeypatch.setattr(dpo_engine, "fit", watched)
    return seen


@pytest.mark.parametrize("kind", ALL)
def test_the_reference_of_dpo_is_the_model_as_it_was(
    kind: str, base: Model, make_pairs: Any, carry_out: Any, references: list[torch.Tensor]
) -> None:
    method = Dpo(steps=3, batch_size=7, learning_rate=rate(kind), adapter={**options(kind), **without_dropout(kind)})
    run = carry_out(method, base, make_pairs())
    carry_out(Dpo(steps=1, batch_size=7, learning_rate=1e-9, adapter={"r": 1}), base, make_pairs())
    assert references[0] == pytest.approx(references[1], abs=1e-4)
    assert len(run.losses) == 3 and run.losses[-1] < run.losses[0]


def without_dropout(kind: str) -> dict[str, Any]:
    return {"dropout": 0.0} if "dropout" in OPTIONS[kind] else {}


@pytest.mark.parametrize("kind", ["pissa", "adalora", "ia3", "loha", "vera", "oft", "prefix", "p-tuning", "houlsby"])
def test_the_reference_of_an_adapter_is_that_adapter(
    kind: str, trained: Any, base: Model, make_pairs: Any, carry_out: Any, references: list[torch.Tensor]
) -> None:
    run = carry_out(Dpo(steps=3, batch_size=7, learning_rate=1e-3), trained(kind).result, make_pairs())
    carry_out(Dpo(steps=1, batch_size=7, learning_rate=1e-9), trained(kind).result, make_pairs())
    assert run.losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert references[0] == pytest.approx(references[1], abs=1e-4)
    assert run.files().keys() == trained(kind).files().keys()


ELSEWHERE = """
import sys
from pathlib import Path
from tests.trl.conftest import Run
from tests.trl.test_adapters import ALL, brief
from tuneforge import ChatData, Model

base, chats, to = map(Path, sys.argv[1:])
for kind in ALL:
    (to / kind).mkdir()
    Run(brief(kind), Model(base, "b" * 64), ChatData(chats, ""), to / kind)
"""


def brief(kind: str) -> Sft:
    return Sft(steps=3, batch_size=4, learning_rate=1e-3, adapter=options(kind))


def test_the_same_bytes_elsewhere(base: Model, make_chats: Any, carry_out: Any, tmp_path: Path) -> None:
    """In another process and folder, under another seed of hashes."""
    chats = make_chats()
    here = {kind: carry_out(brief(kind), base, chats).files() for kind in ALL}
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, (base.path, chats.path, tmp_path))],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    for kind in ALL:
        there = {path.name: path.read_bytes() for path in (tmp_path / kind / "out").iterdir()}
        assert there == here[kind], kind


@pytest.mark.parametrize("kind", ["lora", "ia3", "houlsby", "prompt", "adalora"])
def test_gradient_checkpointing_changes_nothing(kind: str, base: Model, make_chats: Any, carry_out: Any) -> None:
    settings = {"steps": 3, "batch_size": 7, "learning_rate": rate(kind), "adapter": options(kind)}
    plain, saving = (
        carry_out(Sft(**settings, gradient_checkpointing=checkpointing), base, make_chats())
        for checkpointing in (False, True)
    )
    assert saving.losses == pytest.approx(plain.losses, rel=1e-4)
