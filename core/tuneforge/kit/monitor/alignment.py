"""The troubles of alignment, told from rewards, margins and what is measured of held-out rows on the way."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from statistics import fmean, median

from .moments import Moment, Settings, noise, number
from .options import TroubleName

_BEGIN = 10
"""Steps that stand for the beginning, and after it for the present."""
_PRESENT = 5
"""The same where what is looked at has a bound of its own."""


class Hacking:
    """What is optimised goes on rising, while a figure of the held-out rows falls in two measurements on end.

    Gao et al. 2022 (overoptimization), https://arxiv.org/abs/2210.10760
    """

    name: TroubleName = "reward_hacking"
    # What is optimised, and what the held-out figures of it that should not fall begin with. The mean reward of pairs
    # is none: where they are all that is learnt from, it may be anything.
    _OPTIMISED = (("reward", "reward"), ("reward_margin", "reward_accuracy"))
    _LEAST = 0.05  # of the best, or of one: by so much it must have fallen

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._gains: list[float] = []  # since the last measurement
        self._seen: list[tuple[int, dict[str, float], float]] = []  # step, held-out figures, what is optimised
        self._told: set[str] = set()

    def see(self, moment: Moment) -> tuple[str, str] | None:
        optimised = next((names for names in self._OPTIMISED if names[0] in moment.figures), None)
        if optimised is None:
            return None
        gain = moment.figures[optimised[0]]
        if math.isfinite(gain):
            self._gains.append(gain)
        measured = dict(_quality(moment, optimised[1]))
        if not measured or not self._gains:
            return None
        self._seen.append((moment.step, measured, median(self._gains)))
        self._gains.clear()
        for name in measured:
            found = self._falls(name) if name not in self._told else None
            if found:
                self._told.add(name)
                return found
        return None

    def _falls(self, name: str) -> tuple[str, str] | None:
        course = [(step, values[name], gain) for step, values, gain in self._seen if name in values]
        best = max(range(len(course)), key=lambda place: course[place][1])
        if len(course) - best < 3:
            return None
        step, most, gain = course[best]
        (_, before, _), (at, now, gained) = course[-2:]
        bound = most - self._LEAST * max(abs(most), 1.0)
        if not (now <= before < bound and gained > gain):
            return None
        return (
            f"reward hacking: since step {step} the held-out {name.replace('_', ' ')} has fallen from {number(most)} "
            f"to {number(now)} at step {at} of {self._settings.steps}, while what is optimised rose from "
            f"{number(gain)} to {number(gained)}",
            "Hold the model closer to its reference (a higher beta), train for fewer steps, or look at what earns the "
            "reward: answers that the samples show, and a reward that counts what they lack.",
        )


class Runaway:
    """The model is far from its reference: more than a nat for each token of its answers."""

    name: TroubleName = "kl"
    _FAR = 1.0  # nats a token

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recent: deque[float] = deque(maxlen=_PRESENT)
        self._on = False

    def see(self, moment: Moment) -> tuple[str, str] | None:
        value = moment.figures.get("kl")
        if value is None or not math.isfinite(value):
            return None
        self._recent.append(value)
        now = median(self._recent)
        if self._on or len(self._recent) < _PRESENT or now <= self._FAR:
            self._on = self._on and now > self._FAR / 2
            return None
        self._on = True
        return (
            f"the KL to the reference is running away: {number(now)} nats a token at step {moment.step} of "
            f"{self._settings.steps}",
            f"Raise beta, or lower the learning rate (it is {self._settings.learning_rate:g}): so far from its "
            "reference a model forgets what it could do.",
        )


class Lengthening:
    """Answers are twice as long as they were in the beginning; told again when they have doubled once more."""

    name: TroubleName = "length"
    _LEAST = 16  # tokens that they have grown by

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._start: list[float] = []
        self._recent: deque[float] = deque(maxlen=_BEGIN)
        self._level: float | None = None

    def see(self, moment: Moment) -> tuple[str, str] | None:
        tokens = moment.figures.get("answer_tokens")
        if tokens is None:
            return None
        if len(self._start) < _BEGIN:
            self._start.append(tokens)
            return None
        self._recent.append(tokens)
        level = self._level or median(self._start)
        now = median(self._recent)
        if len(self._recent) < _BEGIN or now < 2 * level or now - level < self._LEAST:
            return None
        self._level = now
        return (
            f"answers grow ever longer: {number(now)} tokens at step {moment.step} of {self._settings.steps}, after "
            f"{number(median(self._start))} at the beginning",
            "If that is not what they are to do, reward a length, punish answers that do not end, or take a loss that "
            "does not favour long ones: see Singhal et al. 2023, https://arxiv.org/abs/2310.03716",
        )


class Undecided:
    """After the warm-up and a quarter of the steps, at least 30, chosen answers win no more often than by a coin."""

    name: TroubleName = "undecided"
    _SURE = 0.6  # a share of pairs that is plainly above a coin's

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shares: list[float] = []
        self._rate = 0.0
        self._over = False

    def see(self, moment: Moment) -> tuple[str, str] | None:
        share = moment.figures.get("reward_accuracy")
        if self._over or share is None:
            return None
        rising = moment.learning_rate is not None and moment.learning_rate > self._rate
        self._rate = max(self._rate, moment.learning_rate or 0.0)
        if rising:
            return None
        self._shares.append(share)
        due = max(30, self._settings.steps // 4)
        if len(self._shares) < due or (len(self._shares) - due) % 10:  # few looks, as each may err
            return None
        later = self._shares[len(self._shares) // 2 :]
        mean = fmean(later)
        error = max(noise(self._shares), 0.05) / math.sqrt(len(later))
        self._over = mean > self._SURE or mean <= 0.5 + error / 2  # what is in between is looked at again
        if mean > 0.5 + error / 2:
            return None
        return (
            f"the accuracy is stuck at {mean:.0%}: at step {moment.step} of {self._settings.steps} the chosen answers "
            "are preferred no more often than by a coin",
            f"Raise the learning rate (it is {self._settings.learning_rate:g}); if that changes nothing, look at the "
            "pairs: is what makes one answer better there to be seen, and the same in all of them?",
        )


class Unlikely:
    """The chosen answers have become far less likely than they were, along with the rejected ones.

    Pal et al. 2024, https://arxiv.org/abs/2402.13228; Rafailov et al. 2024, https://arxiv.org/abs/2404.12358
    """

    name: TroubleName = "chosen_falling"
    _LEAST = 5.0  # nats an answer

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._start: list[float] = []
        self._recent: deque[float] = deque(maxlen=_BEGIN)
        self._over = False

    def see(self, moment: Moment) -> tuple[str, str] | None:
        value = moment.figures.get("chosen_logps")
        if self._over or value is None or not math.isfinite(value):
            return None
        if len(self._start) < _BEGIN:
            self._start.append(value)
            return None
        self._recent.append(value)
        start, now = median(self._start), median(self._recent)
        if len(self._recent) < _BEGIN or start - now < max(self._LEAST, abs(start) / 2):
            return None
        self._over = True
        return (
            f"the chosen answers are becoming unlikely: a log-probability of {number(now)} at step {moment.step} of "
            f"{self._settings.steps}, after {number(start)} at the beginning",
            "Both answers of a pair fall together, and what rises in their place is neither: raise beta, lower the "
            f"learning rate (it is {self._settings.learning_rate:g}), or add a loss on the chosen ones.",
        )


def _quality(moment: Moment, beginning: str) -> Iterator[tuple[str, float]]:
    """The figures of held-out rows of which more is better: those whose name begins so."""
    for name, value in moment.figures.items():
        of = name.removeprefix("eval_")
        if name != of and of.startswith(beginning) and of != "reward_margin" and math.isfinite(value):
            yield of, value
