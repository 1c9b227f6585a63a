"""LoRA on a base that is rounded while it is trained."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trl.test_adapters import logits
from tests.trl.test_resume import assert_resumed, killed_at
from tuneforge import Adapter, Model, Step
from tuneforge.kit.models import load_model
from tuneforge_peft.adapter import MergeAdapter
from tuneforge_trl import sft_engine
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.sft import Sft

pytestmark = pytest.mark.slow

ADAPTER = {"type": "qlora", "r": 8, "dropout": 0.1}


def method(base: str = "nf4", **options: Any) -> Sft:
    return Sft(batch_size=7, learning_rate=1e-2, adapter={**ADAPTER, "base": base}, **options)


@pytest.mark.parametrize(
    "base_type", ["nf4", *(pytest.param(kind, marks=pytest.mark.whole) for kind in ("fp4", "int8"))]
)
def test_it_learns_on_a_rounded_base_and_sits_on_the_full_one(
    base_type: str, base: Model, make_chats: Any, carry_out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    save = sft_engine.save

    def watched(trainer: Any, *rest: Any) -> None:
        layers = {type(module).__name__ for module in trainer.model.modules()}
        dtypes = {weight.dtype for weight in trainer.model.parameters() if weight.requires_grad}
        seen.append((layers, dtypes, logits(trainer.model)))
        save(trainer, *rest)

    monkeypatch.setattr(sft_engine, "save", watched)
    run = carry_out(method(base_type, steps=15), base, make_chats())
    ((layers, dtypes, rounded),) = seen
    assert ("Linear8bitLt" if base_type == "int8" else "Linear4bit") in layers
    assert dtypes == {torch.float32}
    assert run.losses[-1] < run.losses[0] - 0.2
    config = json.loads(run.files()["adapter_config.json"])
    assert (config["peft_type"], config["r"], config["auto_mapping"]) == ("LORA", 8, {"quantized_base": base_type})
    full = logits(load_model(run.result, dtype=torch.float32))
    # Near what it was trained on, and not the same.
    assert 1e-4 < float((full - rounded).abs().mean()) < 0.2 * float(rounded.abs().mean())
    (finding,) = MergeAdapter().check({"model": [Adapter.facts(run.step.out, Model.facts(base.path))]})
    assert finding.level == "warning" and f"rounded to {base_type}" in finding.problem
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    step = Step("merged", tmp_path / "out", tmp_path / "scratch", seed=1, threads=1, send=lambda event: None)
    MergeAdapter().run(model=run.result, step=step)
    assert step.figures["merge_error"] < 1e-5 * step.figures["largest_logit"]


def test_killed_and_started_again(base: Model, make_chats: Any, carry_out: Any, tmp_path: Path) -> None:
    short = method(steps=7, log_every=1, save_every=4, packing=True, max_length=48)
    wanted = carry_out(short, base, make_chats())
    killed_at(6, tmp_path, short, base, make_chats(), carry_out)
    assert_resumed(carry_out(short, base, make_chats(), tmp_path), wanted, after=4)


def test_other_options_give_another_base(base: Model, make_chats: Any, carry_out: Any) -> None:
    plain = carry_out(method(steps=1), base, make_chats())
    for other in ({"double_quant": False}, {"compute_dtype": "bfloat16"}):
        run = carry_out(Sft(**plain_options(), adapter={**ADAPTER, **other}), base, make_chats())
        assert run.losses != plain.losses


def plain_options() -> dict[str, Any]:
    return {"batch_size": 7, "learning_rate": 1e-2, "steps": 1}


def test_it_is_aligned(base: Model, make_pairs: Any, carry_out: Any) -> None:
    run = carry_out(
        Dpo(steps=6, batch_size=7, learning_rate=1e-2, adapter={"type": "qlora", "r": 8}), base, make_pairs()
    )
    # To begin with, the rounded base is the reference.
    assert run.losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert run.losses[-1] < 0.6
    assert load_file(run.step.out / "adapter_model.safetensors")
