"""Values outside the usual ranges: warnings with a reason, never silent, never in the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import modeling_utils

from tests.trl.colours import CHATS
from tuneforge import Adapter, ChatData, Facts, Finding, Model, StepError
from tuneforge.artifacts import Tensor
from tuneforge.plan import make_plan
from tuneforge.recipe import read_recipe
from tuneforge_registry import Registry
from tuneforge_trl import advice
from tuneforge_trl.adapters.lora import Lora
from tuneforge_trl.advice import LARGE, TABLE, packing_gain
from tuneforge_trl.options import Training
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.settings import compute_dtype
from tuneforge_trl.sft import Sft
from tuneforge_trl.sizes import parameters

RECIPES = Path(__file__).parents[2] / "recipes"


def model(size: int = LARGE, **config: Any) -> Facts:
    return Facts(Model, config, {"model.layers.0.mlp.up_proj.weight": Tensor("BF16", (size, 1))}, None, "template")


def rows(count: int, length: float = 400) -> Facts:
    return Facts(ChatData, rows=count, row_bytes=length)


def found(options: Training, given: Facts | None = None, data: Facts | None = None) -> list[Finding]:
    known = {"model": [given or model()], "data": [data] if data else []}
    return [*options.check(known)]  # type: ignore[attr-defined]


def fields(*given: Any) -> list[str]:
    findings = found(*given)
    assert all(finding.level == "warning" and finding.fix for finding in findings)
    return [finding.field for finding in findings]


@pytest.mark.parametrize("method", [Sft(), Sft(adapter={}), Dpo(), Dpo(adapter={}), Sft(optimizer="muon")])
def test_the_defaults_are_usual(method: Training) -> None:
    assert found(method, model(), rows(10_000)) == []


# Of each option: the outermost values that are usual, and the nearest that are not.
LIMITS: list[tuple[str, dict[str, Any], list[Any], list[Any]]] = [
    ("learning_rate", {}, [1e-6, 1e-4], [9e-7, 1.1e-4]),
    ("learning_rate", {"optimizer": "muon"}, [1e-6, 1e-4], [9e-7, 1.1e-4]),
    ("learning_rate", {"adapter": {}}, [1e-5, 5e-4], [9e-6, 6e-4]),
    ("epochs", {}, [1, 5], [0.9, 6]),
    ("batch_size", {}, [8, 128], [7, 129]),
    ("warmup", {}, [0.01, 0.2], [0, 0.3]),
    ("weight_decay", {}, [0, 0.1], [0.2]),
    ("adapter.r", {"adapter": {}}, [4, 256], [3, 257]),
    ("adapter.alpha", {"adapter": {"r": 16}}, [16, 64], [15]),
    ("adapter.dropout", {"adapter": {}}, [0, 0.1], [0.11]),
]


@pytest.mark.parametrize(("option", "others", "usual", "unusual"), LIMITS)
def test_what_is_outside_is_told(option: str, others: dict[str, Any], usual: list[Any], unusual: list[Any]) -> None:
    def sft(value: Any) -> Sft:
        block, _, name = option.rpartition(".")
        options = {block: {**others[block], name: value}} if block else {**others, name: value}
        return Sft(**options)

    small = model(LARGE - 1)
    any_size = {entry.option for entry in TABLE if entry.any_size}
    for value in usual:
        assert fields(sft(value)) == []
    for value in unusual:
        assert fields(sft(value)) == [option]
        assert fields(sft(value), small) == ([option] if option in any_size else [])


def test_every_entry_is_reached_and_says_why() -> None:
    assert {entry.option for entry in TABLE} == {option for option, *_ in LIMITS} | {"rows"}
    for entry in TABLE:
        assert (
            entry.source.count("https://")
            and (entry.low <= 0 or entry.below)
            and (entry.high == math.inf or entry.above)
        )


def test_how_it_is_told() -> None:
    (rate,) = found(Sft(learning_rate=1e-3, adapter={}))
    assert rate.problem == (
        "learning_rate 1e-3 is above the usual (1e-5 to 5e-4 for an adapter): the model will forget what it knows, "
        "or the loss will not fall at all"
    )
    assert rate.fix.startswith("See Touvron et al. 2023")
    (alpha,) = found(Sft(adapter={"r": 16, "alpha": 8}))
    assert alpha.problem.startswith("alpha 8 is below the usual (16 or more): ")
    (decay,) = found(Sft(weight_decay=1))
    assert decay.problem.startswith("weight_decay 1 is above the usual (at most 0.1): ")


def test_the_page_has_every_range() -> None:
    page = (RECIPES.parent / "docs" / "training.md").read_text(encoding="utf-8").splitlines()
    for entry in TABLE:
        (row, *_) = [line for line in page if line.startswith((f"| `{entry.option}`", f"| {entry.option} "))]
        usual = row.split("|")[2]
        limits = [limit for limit in (entry.low, entry.high) if 0 < limit < math.inf]
        # An alpha is compared with the rank.
        assert entry.option == "adapter.alpha" or all(advice._shown(limit) in usual for limit in limits), row
        assert ("*" in row.split("|")[1]) != entry.any_size, row
    for options, known in (({}, "full"), ({"adapter": {}}, "adapter")):
        for method in (Sft(**options), Dpo(**options)):
            low, high = advice._range(TABLE[0], method, known == "adapter")
            said = f"{advice._shown(low)} to {advice._shown(high)}"
            assert any("learning_rate" in line and known in line and said in line for line in page)


def test_rates_are_by_method_and_by_what_is_trained() -> None:
    assert fields(Dpo(learning_rate=2e-5)) == fields(Dpo(learning_rate=1e-4, adapter={})) == ["learning_rate"]
    assert fields(Dpo(learning_rate=5e-7)) == fields(Dpo(learning_rate=5e-5, adapter={})) == []
    trained_on = Facts(Adapter, {"peft_type": "LORA"}, {}, None, "template", model())
    assert fields(Sft(learning_rate=2e-4), trained_on) == []
    assert fields(Sft(learning_rate=2e-4)) == ["learning_rate"]


def test_a_kind_of_adapter_may_have_ranges_of_its_own() -> None:
    class Vector(Lora):
        usual: ClassVar = {"r": (256, 1024), "alpha": (0, math.inf)}
        usual_rate: ClassVar = 20.0

    assert fields(Sft(adapter=Vector(r=512, alpha=1), learning_rate=4e-3)) == []
    assert fields(Dpo(adapter=Vector(r=512, alpha=1), learning_rate=1e-3)) == []
    assert fields(Sft(adapter=Vector(r=16), learning_rate=1e-4)) == ["learning_rate", "adapter.r"]


def test_few_rows() -> None:
    assert fields(Sft(), model(), rows(500)) == []
    (finding,) = found(Sft(), model(), rows(499))
    assert finding.problem.startswith("the number of rows, 499 is below the usual (500 or more): ")
    assert found(Sft(), model(1000), rows(7)) == []


def test_steps_are_epochs_too() -> None:
    assert fields(Sft(steps=500, epochs=99), model(), rows(1600)) == []  # five times
    assert fields(Sft(steps=600), model(), rows(1600)) == ["steps"]
    assert fields(Sft(steps=600, packing=True), model(), rows(1600)) == []
    assert fields(Sft(steps=600)) == fields(Sft(steps=600), model(1000), rows(1600)) == []


def test_packing_of_rows_that_are_near_the_limit() -> None:
    given = model(max_position_embeddings=512)
    assert fields(Sft(packing=True), given, rows(1000, 4 * 256)) == []
    (finding,) = found(Sft(packing=True), given, rows(1000, 4 * 300))
    assert finding.problem == "rows of about 300 tokens are packed into sequences of 512: hardly two share one"
    assert fields(Sft(packing=True, max_length=1024), model(), rows(1000, 4 * 600)) == ["packing"]
    assert fields(Sft(), given, rows(1000, 4 * 300)) == []
    assert packing_gain(100, 80) is None and packing_gain(100, 81) is not None


def test_how_large_a_model_is() -> None:
    assert parameters(model(1234)) == 1234
    packed = {"q.qweight": Tensor("I32", (4, 8)), "k.weight": Tensor("U8", (16, 1)), "n.weight": Tensor("F16", (8,))}
    assert parameters(Facts(Model, {}, packed)) == 4 * 8 * 8 + 2 * 16 + 8
    llama = {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008, "vocab_size": 32000}
    for config in (llama, {"text_config": llama}):
        assert parameters(Facts(Model, config)) == pytest.approx(6.7e9, rel=0.05)
    gpt2 = {"n_embd": 768, "n_layer": 12, "vocab_size": 50257, "n_inner": None}
    assert parameters(Facts(Model, gpt2)) == pytest.approx(124e6, rel=0.3)
    assert parameters(Facts(Model)) == 0


@pytest.mark.parametrize(("capability", "told"), [(None, "on GPUs since Ampere"), (9.0, "on this GPU"), (7.5, "")])
def test_fp16_where_bf16_is_there(monkeypatch: pytest.MonkeyPatch, capability: float | None, told: str) -> None:
    monkeypatch.setattr(advice, "_compute_capability", lambda: capability)
    findings = found(Sft(precision="fp16"), model(1000))
    assert [finding.field for finding in findings] == ["precision"] * bool(told)
    assert all(told in finding.problem for finding in findings)
    assert found(Sft(precision="bf16"), model(1000)) == []


def test_the_gpu_is_asked_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert advice._compute_capability() is None
    for said, capability in (("9.0\\n9.0", 9.0), ("No devices were found", None)):
        tool.write_text(f'#!/bin/sh\nprintf "{said}"\n')
        tool.chmod(0o755)
        assert advice._compute_capability() == capability


def test_what_is_computed_in() -> None:
    cpu = not torch.cuda.is_available()
    assert compute_dtype(Sft(precision="bf16")) is torch.bfloat16
    assert compute_dtype(Sft(precision="fp32")) is torch.float32
    if cpu:
        assert compute_dtype(Sft()) is torch.float32
        with pytest.raises(StepError, match="fp16 needs a GPU"):
            compute_dtype(Sft(precision="fp16"))
    assert Sft(precision="bf16").model_dump(context={"keyed": True}) == {"precision": "bf16"}


class Prompt(Lora):
    """What a kind of adapter declares, that cannot be packed or trained with checkpointing."""

    packable: ClassVar[bool] = False
    checkpointable: ClassVar[bool] = False


def test_what_an_adapter_cannot_do_is_refused() -> None:
    adapter = Prompt(r=4)
    assert found(Sft(adapter=adapter)) == found(Sft(adapter={}, packing=True, gradient_checkpointing=True)) == []
    refused = found(Sft(adapter=adapter, packing=True, gradient_checkpointing=True))
    assert [(finding.level, finding.field) for finding in refused] == [
        ("error", "packing"),
        ("error", "gradient_checkpointing"),
    ]


@pytest.mark.parametrize("recipe", ["dpo-after-sft", "dpo", "sft-lora", "tiny-base"])
def test_recipes_of_small_models_are_planned_without_a_warning(recipe: str, tmp_path: Path) -> None:
    plan = make_plan(read_recipe(RECIPES / f"{recipe}.yaml"), Registry(tmp_path))
    assert [str(finding) for finding in plan.findings] == []


@pytest.mark.slow
def test_computing_in_bf16(base: Model, make_chats: Any, carry_out: Any) -> None:
    method = {"steps": 3, "batch_size": 7, "learning_rate": 1e-3}
    for options in (method, {**method, "adapter": {}}):
        full = carry_out(Sft(**options), base, make_chats())
        half = carry_out(Sft(**options, precision="bf16"), base, make_chats())
        assert half.losses == pytest.approx(full.losses, rel=0.02)
        assert half.losses != full.losses


@pytest.mark.slow
def test_checkpointing_is_not_reentrant(
    base: Model, make_chats: Callable[..., ChatData], carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []

    def checkpoint(function: Any, *args: Any, **settings: Any) -> Any:
        used.append(settings.get("use_reentrant"))
        return real(function, *args, **settings)

    real = modeling_utils.checkpoint  # type: ignore[attr-defined]
    monkeypatch.setattr(modeling_utils, "checkpoint", checkpoint)
    for options in ({}, {"adapter": {}}):
        used.clear()
        carry_out(Sft(steps=1, gradient_checkpointing=True, **options), base, make_chats())
        assert used and not any(used) and None not in used


@pytest.mark.slow
def test_packing_that_gains_nothing_is_told_of(base: Model, make_chats: Any, carry_out: Any) -> None:
    run = carry_out(Sft(steps=1, packing=True, max_length=24), base, make_chats())
    assert run.warnings == [
        f"packing put {len(CHATS)} rows into {run.figures['packs']} sequences: most are too long to share one"
    ]
    assert carry_out(Sft(steps=1, packing=True, max_length=64), base, make_chats()).warnings == []
