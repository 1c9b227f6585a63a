"""What the monitor says of the figures of alignment: of healthy ones nothing, of each trouble its name."""

from __future__ import annotations

import math
import random

import pytest

from tests.trl.test_alarms import alarms, named
from tuneforge.kit.monitor.moments import Moment

STEPS = 120


def course(figure: str, start: float, end: float, noise: float, seed: int = 0) -> list[Moment]:
    """A figure that goes from one value to another, beside a loss that falls."""
    draw = random.Random(seed)
    return [
        Moment(step, 1 / step, 1e-5, 1.0, figures={figure: start + (end - start) * step / STEPS + draw.gauss(0, noise)})
        for step in range(1, STEPS + 1)
    ]


def measured(
    held_out: list[float], name: str = "eval_reward", rising: float = 0.2, optimised: str = "reward"
) -> list[Moment]:
    """Rewards that rise from step to step, and a figure of the held-out rows after every tenth."""
    moments = []
    for place, value in enumerate(held_out):
        for step in range(10 * place + 1, 10 * place + 11):
            figures = {optimised: rising * place + 0.01 * (step % 3)}
            moments.append(Moment(step, 0.0, 1e-5, 1.0, figures=figures | ({name: value} if step % 10 == 0 else {})))
    return moments


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("figure", "start", "end", "noise"),
    [
        ("kl", 0.0, 0.3, 0.05),
        ("answer_tokens", 30, 45, 6),
        ("answer_tokens", 4, 12, 2),
        ("reward_accuracy", 0.55, 0.95, 0.15),
        ("reward_accuracy", 0.95, 1.0, 0.05),
        ("chosen_logps", -30, -33, 6),
        ("chosen_logps", -30, -8, 6),
        ("chosen_logps", -400, -500, 40),
    ],
)
def test_nothing_is_said_of_figures_as_they_go(figure: str, start: float, end: float, noise: float, seed: int) -> None:
    assert alarms(course(figure, start, end, noise, seed), STEPS) == []


def test_a_kl_that_runs_away() -> None:
    (alarm,) = alarms(course("kl", 0.0, 4.0, 0.1), STEPS)
    assert alarm.trouble == "kl" and "running away: 1.0" in alarm.problem
    assert alarm.fix.startswith("Raise beta, or lower the learning rate (it is 0.0002)")


def test_answers_that_grow_and_grow() -> None:
    found = alarms(course("answer_tokens", 20, 100, 3), STEPS)
    assert named(found) == ["length", "length"], "at each doubling"
    assert "answers grow ever longer: 4" in found[0].problem and "after 2" in found[0].problem


@pytest.mark.parametrize("level", [0.5, 0.45, 0.1])
def test_an_accuracy_that_stays_at_a_coins(level: float) -> None:
    (alarm,) = alarms(course("reward_accuracy", level, level, 0.1), STEPS)
    assert alarm.trouble == "undecided" and "the accuracy is stuck at" in alarm.problem


def test_pairs_that_a_model_draws_itself_are_not_to_be_won() -> None:
    """online_dpo in its recipe: the held-out reward rises, the accuracy on pairs drawn anew stays near a half."""
    assert alarms(course("reward_accuracy", 0.45, 0.45, 0.1), STEPS, loss_falls=False) == []


def test_an_accuracy_is_not_looked_at_during_the_warm_up() -> None:
    moments = [Moment(step, 1 / step, 1e-7 * step, 1.0, figures={"reward_accuracy": 0.5}) for step in range(1, STEPS)]
    assert alarms(moments, STEPS) == []


def test_chosen_answers_that_become_unlikely() -> None:
    (alarm,) = alarms(course("chosen_logps", -12, -60, 3), STEPS)
    assert alarm.trouble == "chosen_falling" and "add a loss on the chosen ones" in alarm.fix


@pytest.mark.parametrize(
    ("held_out", "rising", "said"),
    [
        ([0.5, 0.8, 0.7, 0.6, 0.5], 0.2, ["reward_hacking"]),
        ([0.5, 0.8, 0.79, 0.78, 0.77], 0.2, []),
        ([0.5, 0.8, 0.7, 0.82, 0.9], 0.2, []),
        ([0.5, 0.8, 0.7, 0.6, 0.5], 0.0, []),
    ],
    ids=["falling", "flat", "once", "both"],
)
@pytest.mark.parametrize("name", ["eval_reward", "eval_reward_accuracy", "eval_reward_exact"])
def test_rewards_that_rise_while_the_held_out_figure_falls(
    name: str, held_out: list[float], rising: float, said: list[str]
) -> None:
    found = alarms(measured(held_out, name, rising), 10 * len(held_out))
    assert named(found) == said
    if said:
        told = name.removeprefix("eval_").replace("_", " ")
        assert f"since step 20 the held-out {told} has fallen from 0.8 to 0.6 at step 40" in found[0].problem


def test_the_mean_reward_of_pairs_may_fall() -> None:
    """A reward model learns how far apart answers are: where the rewards lie, nothing says."""
    falling = [0.5, -0.8, -1.7, -2.6, -3.5]
    assert alarms(measured(falling, optimised="reward_margin"), 10 * len(falling)) == []
    assert named(alarms(measured(falling), 10 * len(falling))) == ["reward_hacking"]


def test_the_loss_of_a_policy_gradient_is_not_expected_to_fall() -> None:
    draw = random.Random(1)
    moments = [Moment(step, 0.3 + draw.gauss(0, 0.02), 1e-5, 1.0) for step in range(1, 200)]
    leaping = [*moments, Moment(200, 9.0, 1e-5, 1.0), Moment(201, 9.5, 1e-5, 1.0)]
    assert set(named(alarms(leaping, 201))) == {"not_falling", "spike"}
    assert alarms(leaping, 201, loss_falls=False) == []
    (alarm,) = alarms([*moments, Moment(200, math.nan)], 200, loss_falls=False)
    assert alarm.trouble == "nan"
