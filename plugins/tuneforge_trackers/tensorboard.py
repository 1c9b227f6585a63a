"""TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tuneforge import Field, Finding, Follower, RunStarted, Target, Tracker

from .checks import writable


class TensorBoard(Tracker):
    """Event files for TensorBoard: `tensorboard --logdir logs`.

    Each step with figures is a run, `<folder>/<recipe>/<id of the run>/<step>`, with its curves, its final figures
    (`final/`), the scores of a report (`final/scores/`), and its configuration as hyperparameters.
    """

    name = "tensorboard"
    needs = ("tensorboard>=2.20",)

    folder: Target = Field(Path("logs"), description="Where to write.", also=("logdir", "log_dir", "logging_dir"))

    def check(self) -> Iterator[Finding]:
        yield from writable(self.folder, "folder")

    def open(self, run: RunStarted) -> Follower:
        from .tensorboard_engine import Logs

        return Logs(run, self.folder)
