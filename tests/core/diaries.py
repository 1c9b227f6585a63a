"""A tracker that writes down what it is told, and misbehaves in many ways."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from tuneforge import (
    Field,
    Finding,
    Follower,
    RunFinished,
    RunStarted,
    StepFinished,
    StepMetrics,
    StepStarted,
    Target,
    Tracker,
    hookimpl,
)

Manner = Literal["well", "refuse", "raise", "kill", "exit", "hang", "linger"]


class Diary(Tracker):
    """A line of JSON for each moment of a run."""

    name = "diary"

    to: Target = Field(Path("diary.jsonl"), description="The file to write.", also=("path",))
    manner: Manner = Field("well", description="How it behaves.")
    pause: float = Field(0.0, ge=0, description="Seconds that it takes for each moment.")

    def check(self) -> list[Finding]:
        return [Finding("no diary is kept there", "Name another file.", field="to")] if self.to.is_dir() else []

    def open(self, run: RunStarted) -> Follower:
        if self.manner == "refuse":
            raise ValueError("the diary is locked")
        print("dear diary", flush=True)
        return Writer(self, run)


class Locked(Tracker):
    """A tracker that needs what nobody has."""

    name = "locked"
    needs = ("tuneforge-has-no-such-package>=7",)

    def open(self, run: RunStarted) -> Follower:
        return Follower()


class Elsewhere(Tracker):
    """A tracker that works in an environment of its own."""

    name = "elsewhere"
    needs = ("toolz==1.0.0",)

    def open(self, run: RunStarted) -> Follower:
        import toolz  # type: ignore[import-untyped]

        follower = Follower()
        follower.place = f"toolz {toolz.__version__} of {Path(sys.prefix).parent.name}"
        return follower


class Writer(Follower):
    def __init__(self, diary: Diary, run: RunStarted) -> None:
        self._diary = diary
        self.place = str(diary.to)
        self._write(run)

    def step_started(self, event: StepStarted) -> None:
        self._write(event)

    def step_metrics(self, event: StepMetrics) -> None:
        match self._diary.manner:
            case "raise":
                raise OSError("the pen is dry")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(600)
        self._write(event)

    def step_finished(self, event: StepFinished) -> None:
        self._write(event)

    def run_finished(self, event: RunFinished) -> None:
        if self._diary.manner == "linger":
            time.sleep(600)
        self._write(event)

    def _write(self, event: Any) -> None:
        time.sleep(self._diary.pause)
        with self._diary.to.open("a") as file:
            file.write(json.dumps({"told": type(event).__name__, "pid": os.getpid()} | asdict(event)) + "\n")


@hookimpl
def register_tracker() -> list[type[Tracker]]:
    return [Diary, Locked, Elsewhere]
