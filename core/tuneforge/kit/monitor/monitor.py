"""All watchers together, and what is done about what they see."""

from __future__ import annotations

from collections.abc import Iterator

from tuneforge import Step, StepError

from .alignment import Hacking, Lengthening, Runaway, Undecided, Unlikely
from .moments import Alarm, Moment, Settings, Watcher
from .options import MonitorOptions
from .troubles import Exploding, NoLabels, NotANumber, NotFalling, Overfitting, Slow, Spikes


class Monitor:
    """All watchers together."""

    def __init__(self, settings: Settings) -> None:
        # What explains another comes before it.
        kinds = (NoLabels, NotANumber, Exploding, Slow, Runaway, Lengthening, Unlikely, Hacking)
        # Of pairs that a model draws itself, the worse answers are those that it still makes likely: a half is usual.
        of_the_loss = (Undecided, Spikes, NotFalling, Overfitting) if settings.loss_falls else ()
        self._watchers: list[Watcher] = [kind(settings) for kind in (*kinds, *of_the_loss)]

    def see(self, moment: Moment) -> Iterator[Alarm]:
        """The troubles that begin with this step."""
        for watcher in self._watchers:
            told = watcher.see(moment)
            if told:
                yield Alarm(watcher.name, *told)


class Guard:
    """Tells a step of the troubles of its training, and ends it for those that are to stop it."""

    def __init__(self, options: MonitorOptions, settings: Settings, step: Step) -> None:
        self._stop_on, self._ignore = options.stop_on, options.ignore
        self._monitor, self._step = Monitor(settings), step

    def recall(self, moment: Moment) -> None:
        """Sees a moment of before a training was resumed: its troubles are told anew, and stop nothing."""
        for alarm in self._monitor.see(moment):
            self._warn(alarm, moment.step)

    def see(self, moment: Moment) -> None:
        """Raises StepError for a trouble that is to stop the training, once the others are told."""
        alarms = list(self._monitor.see(moment))
        stopping = next((alarm for alarm in alarms if alarm.trouble in self._stop_on), None)
        for alarm in alarms:
            if alarm is not stopping:
                self._warn(alarm, moment.step)
        if stopping:
            raise StepError(stopping.problem, stopping.fix)

    def _warn(self, alarm: Alarm, at: float) -> None:
        if alarm.trouble not in self._ignore:
            self._step.warn(alarm.problem, alarm.fix, at)
