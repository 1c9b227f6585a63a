"""Every trouble is provoked in a real training, and named by its monitor; a healthy training has none."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from transformers import Trainer

from tests.core.bench import new, step_of
from tests.trl.colours import CHATS, MISTAKEN
from tests.trl.test_resume import killed_at
from tuneforge import Model, StepError
from tuneforge.kit.monitor import troubles
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.sft import Sft

pytestmark = pytest.mark.slow

OVERFIT = {"steps": 48, "batch_size": 7, "learning_rate": 5e-3, "evaluate_every": 4, "samples": 0}


def chat(question: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "tools": None}


def told(run: Any) -> list[str]:
    return [re.split(r":| at step| [\d.]+ to ", problem)[0] for problem in run.warnings]


def test_a_healthy_training_has_none(whole: Any, base: Model, make_pairs: Any, carry_out: Any) -> None:
    assert whole.warnings == []
    run = carry_out(Dpo(steps=40, batch_size=2, learning_rate=1e-3, adapter={"r": 8}), base, make_pairs())
    assert run.warnings == []


def test_a_loss_that_does_not_fall(base: Model, make_chats: Any, carry_out: Any) -> None:
    run = carry_out(Sft(steps=45, batch_size=2, learning_rate=1e-8), base, make_chats())
    assert told(run) == ["the loss is not falling"]


def test_a_loss_that_leaps(base: Model, make_chats: Any, carry_out: Any) -> None:
    """By rows that are unlike all others, in places at which the order of the seed comes late."""
    rows = [CHATS[0]] * 62
    for place, answer in ((34, "x%q z(Kj 77 ~~ Qv |;"), (3, "@@ j9 Zx vv %% kq ,,"), (20, "Zq 8 8 8 ~ |")):
        rows[place] = chat("?", answer)
    run = carry_out(Sft(steps=62, batch_size=1, learning_rate=3e-3), base, make_chats(rows))
    assert set(told(run)) == {"the loss has leapt from about"}


def test_a_gradient_that_explodes(
    base: Model, make_chats: Any, carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By weights that a faulty device has made thirty times as large."""
    steps = 0

    def enlarge(model: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 30:
            model.lm_head.weight.data *= 30

    before_clipping(enlarge, monkeypatch)
    run = carry_out(Sft(steps=40, batch_size=7, learning_rate=1e-3), base, make_chats())
    assert "exploding gradients" in told(run)


def test_a_gradient_that_is_clipped_to_next_to_nothing(base: Model, make_chats: Any, carry_out: Any) -> None:
    method = Sft(steps=52, batch_size=2, learning_rate=1e-3, max_grad_norm=1e-4)
    run = carry_out(method, base, make_chats())
    assert told(run) == ["exploding gradients"]


def test_overfitting(base: Model, make_chats: Any, carry_out: Any) -> None:
    """Learning by heart what the held-out rows answer otherwise."""
    run = carry_out(Sft(**OVERFIT), base, make_chats(CHATS, MISTAKEN))
    assert told(run) == ["overfitting"]


def test_labels_that_are_all_masked(base: Model, make_chats: Any, carry_out: Any, tmp_path: Path) -> None:
    masked(tmp_path, [{"input_ids": list(range(5, 25)), "labels": [-100] * 20}] * 8)
    stopping = Sft(steps=4, batch_size=2, monitor={"stop_on": ["no_labels"]})
    with pytest.raises(StepError, match=r"all labels are masked: no token of step 1 of 4 is under loss\n.*the rows"):
        carry_out(stopping, base, make_chats(), tmp_path)


def test_labels_that_are_nearly_all_masked(
    base: Model, make_chats: Any, carry_out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(troubles.NoLabels, "_FEW", 0.02)  # the context of the model is short
    masked(tmp_path, [{"input_ids": list(range(5, 205)), "labels": [-100] * 199 + [7]}] * 8)
    run = carry_out(Sft(steps=12, batch_size=2), base, make_chats(), tmp_path)
    assert told(run) == ["nearly all labels are masked"]


def masked(folder: Path, rows: list[dict[str, list[int]]]) -> None:
    """Rows as they would be prepared, were everything left to a mask that is wrong."""
    (folder / "scratch" / "rows").mkdir(parents=True)
    schema = pa.schema([(name, pa.list_(pa.int32())) for name in rows[0]])
    path = folder / "scratch" / "rows" / "train.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_pylist(rows, schema))
    path.with_suffix(".json").write_text(json.dumps({"kept": len(rows), "left_out": {}}))


def test_a_throughput_that_collapses(
    base: Model, make_chats: Any, carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an optimizer that takes longer and longer."""
    monkeypatch.setattr(troubles, "SLOW_SECONDS", 1.0)
    monkeypatch.setattr(troubles.Slow, "_STEPS", 8)
    steps = 0

    def slower(_: Any) -> None:
        nonlocal steps
        steps += 1
        time.sleep(1.0 if steps > 20 else 0)

    before_clipping(slower, monkeypatch)
    run = carry_out(Sft(steps=28, batch_size=1, learning_rate=1e-3), base, make_chats())
    assert told(run) == ["the throughput has collapsed"]


def before_clipping(act: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has something done to the model in each step, between the backward pass and the optimizer."""
    clip = Trainer._clip_grad_norm

    def clip_after(trainer: Trainer, model: Any, *arguments: Any) -> Any:
        act(model)
        return clip(trainer, model, *arguments)

    monkeypatch.setattr(Trainer, "_clip_grad_norm", clip_after)


def test_what_is_to_stop_a_training_stops_it(base: Model, make_chats: Any, carry_out: Any, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    method = Sft(**OVERFIT, monitor={"stop_on": ["overfitting"]})
    with pytest.raises(StepError, match=r"overfitting: since step .*\n.*Train for fewer epochs"):
        carry_out(method, base, make_chats(CHATS, MISTAKEN), tmp_path, send=events.append)
    assert 15 <= events[-1]["done"] < 48
    assert not any((tmp_path / "out").iterdir())


def test_what_is_to_be_ignored_is_not_told(base: Model, make_chats: Any, carry_out: Any) -> None:
    run = carry_out(Sft(**OVERFIT, monitor={"ignore": ["overfitting"]}), base, make_chats(CHATS, MISTAKEN))
    assert run.warnings == []


def test_a_loss_that_is_no_number_may_be_a_warning(base: Model, make_chats: Any, carry_out: Any) -> None:
    method = Sft(steps=5, batch_size=7, learning_rate=1e30, schedule="constant", monitor={"stop_on": []})
    run = carry_out(method, base, make_chats())
    assert len(run.losses) == 5
    assert any("is nan at step" in problem or "is inf at step" in problem for problem in run.warnings)


def test_what_goes_on_after_a_crash_tells_what_was_told_before(
    base: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    method, data = Sft(**OVERFIT, save_every=40), make_chats(CHATS, MISTAKEN)
    wanted = carry_out(method, base, data)
    killed_at(44, tmp_path, method, base, data, carry_out)
    again = carry_out(method, base, data, tmp_path)
    assert again.log[0] == "resuming after step 40"
    warned = [[event for event in run.events if event["event"] == "warning"] for run in (wanted, again)]
    assert [event["problem"] for event in warned[0]] == [event["problem"] for event in warned[1]]
    assert warned[1][0]["done"] < 40, "and when it was"


def test_the_record_of_a_run_has_it(tmp_path: Path) -> None:
    bench = new(tmp_path)
    rows = [row["messages"] for row in CHATS]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"messages": row}) for row in rows))
    recipe = """steps:
  base: {load_model: builtin}
  chats: {format: chat, with: {path: rows.jsonl}}
  sft: {train: sft, model: base, data: chats, with: {steps: 35, batch_size: 7, learning_rate: 1e-12}}
"""
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    ended = bench.command("run", str(path), "--json")
    assert ended.code == 0, ended.err
    (warning,) = step_of(ended.json, "sft")["warnings"]
    assert warning["problem"].startswith("the loss is not falling: ") and warning["done"] > 29
    again = bench.command("run", str(path), "--json", "--set", "steps.sft.with.monitor.stop_on=[not_falling]")
    assert (again.code, step_of(again.json, "sft")["status"]) == (0, "cached"), "it is the same result"
    changes = ("steps.sft.with.steps=36", "steps.sft.with.monitor.stop_on=[not_falling]")
    failed = bench.command("run", str(path), "--json", *(part for change in changes for part in ("--set", change)))
    assert failed.code == 1
    assert step_of(failed.json, "sft")["error"].startswith("step sft: the loss is not falling: ")
