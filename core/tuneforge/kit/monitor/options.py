"""The options of a monitor, and the names of the troubles that it knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tuneforge import Config, Field, Finding

Common = Literal["nan", "no_labels", "not_falling", "spike", "overfitting", "exploding", "slow"]
OfAlignment = Literal["reward_hacking", "kl", "length", "undecided", "chosen_falling"]
TroubleName = Common | OfAlignment


class MonitorOptions(Config):
    """What is done about the troubles that a training may have. Each is told when it is seen, with what mends it.

    nan: the loss or the gradient is no finite number. no_labels: a step without a token under loss, or hardly any.
    not_falling, spike: the loss. overfitting: the held-out loss rises while the training loss falls. exploding: the
    gradient's norm, far above its own history. slow: the throughput falls to less than a quarter. Of alignment alone:
    reward_hacking: rewards rise while a held-out figure falls. kl: the model is far from its reference. length: answers
    grow ever longer. undecided: the accuracy is stuck at a half. chosen_falling: the chosen answers become unlikely.
    """

    stop_on: list[TroubleName] = Field(
        ["nan"], keyed=False, description="Troubles that end the step as failed, at once; the others are warnings."
    )
    ignore: list[TroubleName] = Field([], keyed=False, description="Troubles that are not told.")


def check_monitor(options: MonitorOptions) -> Iterator[Finding]:
    """Findings on these options, where they are the block `monitor`."""
    for name in sorted(set(options.stop_on) & set(options.ignore)):
        yield Finding(
            f"{name} is to stop the training, and to be ignored", "Leave it out of one.", field="monitor.ignore"
        )
