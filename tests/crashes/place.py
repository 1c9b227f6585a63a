"""A folder with a registry in which a recipe is carried out, and what can be seen there from outside."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.crashes.processes import Tree
from tuneforge_registry import Registry

_STEPS = re.compile(r"step (\d+) of (\d+)")


class Place:
    """`command` is what carries out the recipe; it is the same every time."""

    def __init__(self, folder: Path, recipe: str, settings: Sequence[str]) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.command = [sys.executable, "-m", "tuneforge.cli", "run", recipe]
        self.command += [part for setting in settings for part in ("--set", setting)]
        self.registry = Registry(folder / ".tuneforge")
        self._starts = 0
        self._before: set[str] = set()

    def start(self) -> Tree:
        self._starts += 1
        self._before = {folder.name for folder in self._runs()}
        return Tree(self.command, self.folder, self.output)

    @property
    def output(self) -> Path:
        """What the last command has printed."""
        return self.folder / f"output-{self._starts}.txt"

    def record(self) -> dict[str, Any]:
        """The record of the run that the last command is, empty as long as there is none."""
        new = [folder for folder in self._runs() if folder.name not in self._before]
        record = self.registry.home / "runs" / f"{new[0].name}.json" if new else None
        return json.loads(record.read_text()) if record and record.exists() else {}

    def at(self) -> str:
        """The step at which the last command is; empty when it is at none."""
        done = {step["name"] for step in self.record().get("steps", ())}
        logs = [log for log in self._logs() if log.stem not in done]
        return logs[0].stem if logs else ""

    def begun(self, step: str) -> bool:
        """Whether the last command has come to that step."""
        return any(log.stem == step for log in self._logs())

    def works(self) -> bool:
        """Whether a step of the last command is at its work: a training when it has told of its first step."""
        step = self.at()
        return bool(step) and (self.progress(step) > 0 or not self._is_training(step))

    def trains(self) -> bool:
        """Whether the last command has told of a step of training."""
        return any(self.progress(log.stem) > 0 for log in self._logs())

    def _is_training(self, step: str) -> bool:
        planned = {one["name"]: one["stage"] for one in self.record().get("planned", ())}
        return planned.get(step) in ("train", "align")

    def progress(self, step: str) -> float:
        """The share of a training that the last command has seen done."""
        told = [_STEPS.findall(log.read_text()) for log in self._logs() if log.stem == step]
        return max((int(done) / int(all_) for found in told for done, all_ in found), default=0.0)

    def checkpoint(self) -> str:
        """The newest finished checkpoint there is."""
        found = (self.registry.home / "scratch").glob("*/checkpoints/checkpoint-*/finished.json")
        return max((mark.parent.name for mark in found), key=lambda name: int(name.rpartition("-")[2]), default="")

    def kept(self) -> set[str]:
        """Keys of the steps whose results are there."""
        folder = self.registry.home / "steps"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def released(self) -> dict[str, str]:
        """Every file that lies beside the registry and the outputs, and its sha256."""
        files = [path for path in (self.folder / "dist").rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def left_over(self) -> list[str]:
        """What killed runs have left behind that a later one should have cleared away."""
        home = self.registry.home
        found = [*(home / "tmp").iterdir(), *(home / "scratch").iterdir(), *(home / "locks").glob("run-*")]
        return [str(path.relative_to(home)) for path in found]

    def _runs(self) -> list[Path]:
        folder = self.registry.home / "runs"
        return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.exists() else []

    def _logs(self) -> list[Path]:
        return [log for run in self._runs() if run.name not in self._before for log in run.glob("*.log")]


def results(record: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Digest and metrics of every step."""
    return {step["name"]: (step["digest"], step["metrics"]) for step in record["steps"]}
