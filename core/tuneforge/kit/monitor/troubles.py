"""The troubles of a training, told from its figures: each watches for itself, and speaks once an episode.

Medians and their deviations stand for means and standard deviations throughout: a batch that is unlike the others must
neither raise an alarm nor hide one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

from .moments import Moment, Settings, deviation, drop, noise, number
from .options import TroubleName

SLOW_SECONDS = 30.0
"""How long a training must have been slow before it is called so: a busy machine is slow for a moment."""


class NotANumber:
    """The loss or the gradient is infinite or no number: the weights are lost, or about to be."""

    name: TroubleName = "nan"

    def __init__(self, settings: Settings) -> None:
        self._settings, self._on = settings, False

    def see(self, moment: Moment) -> tuple[str, str] | None:
        norm = moment.gradient_norm
        sound = math.isfinite(moment.loss) and (norm is None or math.isfinite(norm))
        begins, self._on = not sound and not self._on, not sound
        if not begins:
            return None
        what = "the gradient's norm" if math.isfinite(moment.loss) else "the loss"
        value = norm if math.isfinite(moment.loss) else moment.loss
        problem = f"{what} is {value} at step {moment.step} of {self._settings.steps}"
        if moment.under_loss == 0:
            return problem, "No token of that step is under loss: look at what the rows have as answers."
        rate = self._settings.learning_rate
        return problem, f"Lower the learning rate (it is {rate:g}), or lengthen the warm-up."


class NotFalling:
    """After the warm-up, and a quarter of the steps, the loss is where it was at the beginning.

    It has fallen once the beginning stands out from what came later, by more than noise has it; and then this is over:
    a loss that has fallen may well stay where it is.
    """

    name: TroubleName = "not_falling"
    _LEAST = 0.02  # of the loss, that must be gained
    _LEARNT = 0.05  # nats a token: what begins there has nothing left to learn

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._losses: list[float] = []
        self._active = 0  # steps after the warm-up
        self._rate = 0.0
        self._over = False

    def see(self, moment: Moment) -> tuple[str, str] | None:
        if self._over:
            return None
        if not math.isfinite(moment.loss):
            self._over = True  # another trouble
            return None
        self._losses.append(moment.loss)
        rate = moment.learning_rate
        if rate is None or rate <= self._rate:
            self._active += 1
        self._rate = max(self._rate, rate or 0.0)
        due = max(30, self._settings.steps // 4)
        if self._active < due or (self._active - due) % 10:  # few looks, as each may err
            return None
        losses = self._losses
        start = median(losses[:5])
        if start <= self._LEARNT or self._fell(losses):
            self._over = True
            return None
        gain, error = drop(losses, len(losses) // 2)
        if gain + error > self._LEAST * start:
            return None
        self._over = True
        rate = self._settings.learning_rate
        return (
            f"the loss is not falling: {number(start)} at the beginning, {number(median(losses[-10:]))} at step "
            f"{moment.step} of {self._settings.steps}",
            f"Raise the learning rate (it is {rate:g}); if that changes nothing, look at the rows: do the answers "
            "follow from the prompts, and is there an adapter where it can do something?",
        )

    def _fell(self, losses: Sequence[float]) -> bool:
        for count in {5, len(losses) // 10, len(losses) // 2}:
            gain, error = drop(losses, max(count, 5))
            if gain > max(self._LEAST * median(losses[:5]), 2 * error):
                return True
        return False


class Spikes:
    """The loss leaps far out of where it was."""

    name: TroubleName = "spike"
    _WINDOW, _CALM = 48, 16

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._start: list[float] = []
        self._recent: deque[float] = deque(maxlen=self._WINDOW)
        self._over: deque[bool] = deque(maxlen=4)
        self._calm: int | None = None  # steps since it was last over, within an episode

    def see(self, moment: Moment) -> tuple[str, str] | None:
        loss = moment.loss
        if not math.isfinite(loss):
            return None
        told = None
        if len(self._recent) >= 12:
            level = median(list(self._recent)[-self._CALM :])
            height = (loss - level) / self._bound(level)
            self._over.append(height > 1)
            if self._calm is not None:
                self._calm = 0 if height > 1 else self._calm + 1
                self._calm = None if self._calm >= self._CALM else self._calm
            elif height > 3 or sum(self._over) > 1:
                self._calm = 0
                told = self._tell(moment, level)
        if len(self._start) < 5:
            self._start.append(loss)
        self._recent.append(loss)
        return told

    def _bound(self, level: float) -> float:
        """How far above the level a loss must be: of the noise, of the level, and of all that was gained till now."""
        gained = median(self._start) - level
        return max(8 * noise(list(self._recent)), 0.5 * abs(level), 0.25 * gained, 1e-3)

    def _tell(self, moment: Moment, level: float) -> tuple[str, str]:
        norm = "" if moment.gradient_norm is None else f", with a gradient of norm {number(moment.gradient_norm)}"
        return (
            f"the loss has leapt from about {number(level)} to {number(moment.loss)} at step {moment.step} of "
            f"{self._settings.steps}{norm}",
            f"The learning rate is too high (it is {self._settings.learning_rate:g}), or rows of that step are unlike "
            "all others: lower it or lengthen the warm-up, lower max_grad_norm, or look for garbled rows.",
        )


class Overfitting:
    """The held-out loss rises in two evaluations on end, while the training loss goes on falling."""

    name: TroubleName = "overfitting"
    _LEAST = 0.02  # of the loss; and at least half of it in nats

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._losses: list[float] = []  # since the last evaluation
        self._seen: list[tuple[int, float, float]] = []  # step, held-out loss, training loss up to there
        self._told_of = -1  # the least that was told of

    def see(self, moment: Moment) -> tuple[str, str] | None:
        if math.isfinite(moment.loss):
            self._losses.append(moment.loss)
        if moment.eval_loss is None or not math.isfinite(moment.eval_loss) or not self._losses:
            return None
        self._seen.append((moment.step, moment.eval_loss, median(self._losses)))
        self._losses.clear()
        best = min(range(len(self._seen)), key=lambda place: self._seen[place][1])
        if len(self._seen) - best < 3 or best == self._told_of:
            return None
        step, least, loss = self._seen[best]
        (_, before, _), (_, now, training) = self._seen[-2:]
        bound = least + max(self._LEAST * abs(least), self._LEAST / 2)
        if not (bound < before <= now and training < loss):
            return None
        self._told_of = best
        return (
            f"overfitting: since step {step} the held-out loss has risen from {number(least)} to {number(now)} at "
            f"step {moment.step} of {self._settings.steps}, while the training loss fell from {number(loss)} to "
            f"{number(training)}",
            "Train for fewer epochs or with patience, take more rows, a lower learning rate, or dropout; keep: best "
            "takes what was best on the held-out rows.",
        )


class Exploding:
    """The gradient is far longer than it has been, or so long at every step that clipping is all that is left of it."""

    name: TroubleName = "exploding"
    _WINDOW, _CLIPPED, _FAR = 32, 50, 50.0

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recent: deque[float] = deque(maxlen=self._WINDOW)
        self._over: deque[bool] = deque(maxlen=4)
        self._calm: int | None = None
        self._clipped = 0

    def see(self, moment: Moment) -> tuple[str, str] | None:
        norm = moment.gradient_norm
        if norm is None or not math.isfinite(norm):
            return None
        told = self._far_above(moment, norm) or self._always_clipped(moment, norm)
        self._recent.append(norm)
        return told

    def _far_above(self, moment: Moment, norm: float) -> tuple[str, str] | None:
        if len(self._recent) < 12:
            return None
        level = median(self._recent)
        greatest = max(list(self._recent)[:-4])  # but for the last few, which may be of the same episode
        bound = max(10 * level, level + 12 * deviation(self._recent), 3 * greatest)
        over = norm > bound and norm > self._settings.max_grad_norm
        self._over.append(over)
        if self._calm is not None:
            self._calm = 0 if norm > 3 * level else self._calm + 1
            self._calm = None if self._calm >= 16 else self._calm
            return None
        if sum(self._over) < 2 and not (over and norm > 3 * bound):
            return None
        self._calm = 0
        return (
            f"exploding gradients: a norm of {number(norm)} at step {moment.step} of {self._settings.steps}, where "
            f"{number(level)} was usual",
            f"Lower the learning rate (it is {self._settings.learning_rate:g}) or lengthen the warm-up; "
            f"max_grad_norm (it is {self._settings.max_grad_norm:g}) bounds what one such step can do.",
        )

    def _always_clipped(self, moment: Moment, norm: float) -> tuple[str, str] | None:
        most = self._settings.max_grad_norm
        self._clipped = self._clipped + 1 if norm > self._FAR * most else 0
        if self._clipped != self._CLIPPED:
            return None
        return (
            f"exploding gradients: each of the last {self._CLIPPED} steps up to step {moment.step} of "
            f"{self._settings.steps} had a norm of more than {number(self._FAR * most)}, and was clipped to {most:g}",
            "With the scale of the loss that is no harm, else steps are all of one length: raise max_grad_norm, or "
            f"lower the learning rate (it is {self._settings.learning_rate:g}).",
        )


class NoLabels:
    """Steps have no token under loss, or next to none."""

    name: TroubleName = "no_labels"
    _FEW, _STEPS = 0.002, 10

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shares: deque[float] = deque(maxlen=self._STEPS)
        self._told_none = self._told_few = False

    def see(self, moment: Moment) -> tuple[str, str] | None:
        share = moment.under_loss
        if share is None:
            return None
        self._shares.append(share)
        fix = "Look at what the rows have as answers, and at which turns are under loss: the rest is only read."
        if share == 0 and not self._told_none:
            self._told_none = True
            return f"all labels are masked: no token of step {moment.step} of {self._settings.steps} is under loss", fix
        few = len(self._shares) == self._STEPS and 0 < median(self._shares) < self._FEW
        if not few or self._told_few:
            return None
        self._told_few = True
        share = median(self._shares)
        return f"nearly all labels are masked: one token in {1 / share:,.0f} is under loss", fix


class Slow:
    """The throughput falls to less than a quarter, and stays there."""

    name: TroubleName = "slow"
    _STEPS, _SHARE = 20, 1 / 4

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._usual: deque[float] = deque(maxlen=200)
        self._recent: deque[tuple[float, float]] = deque(maxlen=self._STEPS)  # tokens a second, seconds
        self._on = False

    def see(self, moment: Moment) -> tuple[str, str] | None:
        rate = moment.tokens_per_second
        if rate is None:
            return None
        if len(self._recent) == self._STEPS and not self._on:
            self._usual.append(self._recent[0][0])
        self._recent.append((rate, moment.seconds))
        if len(self._usual) < self._STEPS:
            return None
        usual, now = median(self._usual), median(rate for rate, _ in self._recent)
        if self._on:
            self._on = now < usual / 2
            return None
        long = sum(seconds for _, seconds in self._recent) >= SLOW_SECONDS
        self._on = long and now < self._SHARE * usual
        if not self._on:
            return None
        return (
            f"the throughput has collapsed: {number(now)} tokens a second at step {moment.step} of "
            f"{self._settings.steps}, after {number(usual)}",
            "Something else takes the processor, or memory is full and being swapped, or the device is throttled by "
            "heat: look at the machine. Long rows alone do not do this.",
        )
