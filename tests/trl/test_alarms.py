"""What the monitor says of series of figures: of healthy trainings nothing, of each trouble its name, once."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tuneforge.kit.monitor.moments import Alarm, Moment, Settings
from tuneforge.kit.monitor.monitor import Monitor

CURVES = json.loads(Path(__file__).with_name("curves.json").read_text())
"""Losses and gradient norms of real trainings of the built-in model, healthy ones, in their order."""


def alarms(moments: Iterable[Moment], steps: int, max_grad_norm: float = 1.0, loss_falls: bool = True) -> list[Alarm]:
    monitor = Monitor(Settings(steps, 2e-4, max_grad_norm, loss_falls))
    return [alarm for moment in moments for alarm in monitor.see(moment)]


def named(found: Iterable[Alarm]) -> list[str]:
    return [alarm.trouble for alarm in found]


def recorded(name: str) -> list[Moment]:
    curve = CURVES[name]
    columns = zip(curve["loss"], curve["learning_rate"], curve["gradient_norm"], strict=True)
    return [Moment(step, *figures, under_loss=0.4) for step, figures in enumerate(columns, 1)]


def healthy(seed: int) -> list[Moment]:
    """A training as they go: a loss that falls soon or slowly, among much noise or little, with a warm-up or none."""
    draw = random.Random(seed)
    steps = draw.choice([20, 60, 200, 600])
    start = draw.uniform(0.5, 11)
    end = start * draw.uniform(0.01, 0.7)
    pace = draw.uniform(0.01, 0.3) * steps
    noise = draw.choice([0.02, 0.1, 0.3])
    norm = draw.choice([0.05, 0.8, 12.0])
    warmup = draw.choice([0, 0.03, 0.3]) * steps
    moments = []
    for step in range(1, steps + 1):
        loss = (end + (start - end) * math.exp(-max(0, step - warmup / 2) / pace)) * draw.lognormvariate(0, noise)
        rate = 2e-4 * min(1, step / (warmup + 1))
        speed = 5000 * draw.lognormvariate(0, 0.3)
        gradient = norm * draw.lognormvariate(0, 0.4)
        moments.append(Moment(step, loss, rate, gradient, None, 0.3, speed, 0.2))
        if step % max(1, steps // 10) == 0:
            moments[-1] = replace(moments[-1], eval_loss=1.05 * end + (start - end) * math.exp(-step / pace))
    return moments


@pytest.mark.parametrize("name", CURVES)
def test_nothing_is_said_of_a_real_healthy_training(name: str) -> None:
    moments = recorded(name)
    assert len(moments) >= 20
    assert alarms(moments, len(moments)) == []


def test_nothing_is_said_of_hundreds_of_healthy_trainings() -> None:
    said = {seed: found for seed in range(400) if (found := alarms(moments := healthy(seed), len(moments)))}
    assert said == {}


def test_nothing_is_said_of_a_preference_loss_that_begins_at_log_two() -> None:
    draw = random.Random(3)
    slowly = [math.log(2) - 0.2 * step / 300 + draw.gauss(0, 0.03) for step in range(300)]
    assert alarms((Moment(step, loss, 1e-6, 20.0) for step, loss in enumerate(slowly, 1)), 300) == []


def test_nothing_is_said_of_what_has_nothing_to_learn() -> None:
    assert alarms((Moment(step, 0.01 + step % 7 * 1e-3) for step in range(1, 200)), 200) == []


def test_nothing_is_said_of_a_loss_that_fell_at_once_and_stays() -> None:
    draw = random.Random(4)
    losses = [1.5 * math.exp(-step / 4) + 1.1 + draw.gauss(0, 0.08) for step in range(1000)]
    assert alarms((Moment(step, loss, 2e-4, 1.5) for step, loss in enumerate(losses, 1)), 1000) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number(bad: float) -> None:
    moments = [*healthy(1)[:15], Moment(16, bad), Moment(17, bad)]
    (alarm,) = alarms(moments, 20)
    assert (alarm.trouble, alarm.problem) == ("nan", f"the loss is {bad} at step 16 of 20")
    assert alarm.fix == "Lower the learning rate (it is 0.0002), or lengthen the warm-up."


def test_a_gradient_that_is_no_number() -> None:
    (alarm,) = alarms([Moment(1, 3.0, None, math.nan)], 20)
    assert (alarm.trouble, alarm.problem) == ("nan", "the gradient's norm is nan at step 1 of 20")


def test_labels_that_are_all_masked() -> None:
    found = alarms([Moment(1, math.nan, under_loss=0.0), Moment(2, math.nan, under_loss=0.0)], 20)
    assert named(found) == ["no_labels", "nan"]
    assert found[0].problem == "all labels are masked: no token of step 1 of 20 is under loss"
    assert "No token of that step is under loss" in found[1].fix


def test_labels_that_are_nearly_all_masked() -> None:
    (alarm,) = alarms((Moment(step, 3 / step, under_loss=0.001) for step in range(1, 21)), 20)
    assert alarm.trouble == "no_labels" and "one token in 1,000 is under loss" in alarm.problem


@pytest.mark.parametrize("noise", [0, 0.02, 0.1])
def test_a_loss_that_does_not_fall(noise: float) -> None:
    missed = 0
    for seed in range(20):
        draw = random.Random(seed)
        moments = [Moment(step, 2.5 * draw.lognormvariate(0, noise), 1e-8, 1.0) for step in range(1, 401)]
        found = alarms(moments, 400)
        assert set(named(found)) <= {"not_falling"} and len(found) <= 1
        missed += not found
    assert missed <= 2, "nearly always, and never twice"


def test_a_loss_is_not_said_to_stay_during_the_warm_up() -> None:
    moments = [Moment(step, 2.5, 1e-6 * step, 1.0) for step in range(1, 150)]
    assert alarms(moments, 200) == []


@pytest.mark.parametrize("seed", range(8))
def test_a_loss_that_leaps(seed: int) -> None:
    draw = random.Random(seed)
    losses = [4 * math.exp(-step / 20) + 0.8 * draw.lognormvariate(0, 0.1) for step in range(200)]
    for episode in (80, 150):
        losses[episode : episode + 4] = [3.5, 3.0, 4.0, 2.8]
    found = alarms((Moment(step, loss, 2e-4, 1.0) for step, loss in enumerate(losses, 1)), 200)
    assert named(found) == ["spike", "spike"], "once an episode"
    assert "the loss has leapt from about" in found[0].problem and "at step 8" in found[0].problem


def test_a_gradient_that_explodes() -> None:
    draw = random.Random(5)
    norms = [0.8 * draw.lognormvariate(0, 0.4) for _ in range(120)]
    norms[70:76] = [30, 80, 60, 200, 90, 50]
    found = alarms((Moment(step, 3 / step + 0.5, 2e-4, norm) for step, norm in enumerate(norms, 1)), 120)
    assert named(found) == ["exploding"]
    assert "where 0.8" in found[0].problem or "where 0.7" in found[0].problem


def test_a_gradient_that_is_always_clipped_to_next_to_nothing() -> None:
    found = alarms((Moment(step, 3 / step + 0.5, 2e-4, 80.0 + step % 7) for step in range(1, 150)), 150)
    assert named(found) == ["exploding"] and "each of the last 50 steps" in found[0].problem
    assert alarms((Moment(step, 3 / step + 0.5, 2e-4, 8.0 + step % 7) for step in range(1, 150)), 150) == []


def evaluated(held_out: list[float], training: float = 0.5) -> Iterator[Moment]:
    """A training loss that falls by that share in each of the intervals between evaluations."""
    for place, loss in enumerate(held_out):
        for step in range(10):
            at = 10 * place + step + 1
            yield Moment(at, 3 * training**place, 2e-4, 1.0, loss if step == 9 else None)


@pytest.mark.parametrize(
    ("held_out", "training", "said"),
    [
        ([2.0, 1.5, 1.6, 1.8, 2.0], 0.5, ["overfitting"]),
        ([2.0, 1.5, 1.51, 1.52, 1.51], 0.5, []),
        ([2.0, 1.5, 1.6, 1.45, 1.3], 0.5, []),
        ([2.0, 1.5, 1.6, 1.8, 2.0], 1.0, []),
        ([0.01, 0.012, 0.014, 0.016], 0.5, []),
        ([2.0, 1.5, 1.6, 1.8, 1.2, 1.4, 1.6], 0.5, ["overfitting", "overfitting"]),
    ],
    ids=["rising", "flat", "one", "both", "nothing", "twice"],
)
def test_a_held_out_loss_that_rises_while_the_other_falls(
    held_out: list[float], training: float, said: list[str]
) -> None:
    found = alarms(evaluated(held_out, training), 10 * len(held_out))
    assert [alarm.trouble for alarm in found if alarm.trouble != "not_falling"] == said
    if said:
        assert "since step 20 the held-out loss has risen from 1.5 to 1.8 at step 40" in found[0].problem


def test_a_throughput_that_collapses() -> None:
    speeds = [5000.0] * 60 + [900.0] * 60 + [5000.0] * 60 + [900.0] * 60
    moments = [Moment(step, 9 / step, None, 1.0, None, None, speed, 2.0) for step, speed in enumerate(speeds, 1)]
    found = alarms(moments, 240)
    assert named(found) == ["slow", "slow"]
    assert "900 tokens a second" in found[0].problem and "after 5,000" in found[0].problem
    assert alarms((replace(moment, seconds=0.01) for moment in moments), 240) == [], "for a moment only"
