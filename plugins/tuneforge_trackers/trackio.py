"""Trackio."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tuneforge import Field, Finding, Follower, RunStarted, Target, Tracker

from .checks import writable


class Trackio(Tracker):
    """Trackio, in a folder of this machine or in a Space of the Hugging Face Hub.

    Each step with figures is a run named after the recipe's run and the step, in a group that bears the id of the run.
    `trackio show --project <project>` shows them.
    """

    name = "trackio"
    needs = ("trackio>=0.40",)

    project: str | None = Field(
        None, min_length=1, description="The project; the recipe's name if left out.", also=("trackio_project",)
    )
    space: str | None = Field(
        None,
        pattern=r"^([\w.-]+/)?[\w.-]+$",
        description="A Space to send to, made if need be: user/name. This machine alone if left out.",
        also=("space_id", "trackio_space_id"),
    )
    folder: Target | None = Field(
        None, description="Where it is kept on this machine; TRACKIO_DIR, or Trackio's own place, if left out."
    )

    def check(self) -> Iterator[Finding]:
        if self.folder is not None:
            yield from writable(self.folder, "folder")
        token = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface") / "token"
        if self.space and not (os.environ.get("HF_TOKEN") or token.exists()):
            fix = "Say `hf auth login`, set HF_TOKEN, or leave space out."
            yield Finding("there is no login for the Hugging Face Hub", fix, field="space")

    def open(self, run: RunStarted) -> Follower:
        if self.folder is not None:
            os.environ["TRACKIO_DIR"] = str(self.folder)  # read when it is imported
        from .sessions import plain
        from .trackio_engine import Project

        return Project(run, self.project or plain(run.recipe), self.space)
