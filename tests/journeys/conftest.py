"""The command line as a person uses it, in folders of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def statuses(self) -> dict[str, str]:
        return {step["name"]: step["status"] for step in self.json["steps"]}

    def digests(self) -> dict[str, str]:
        return {step["name"]: step["digest"] for step in self.json["steps"]}


@dataclass(frozen=True)
class Person:
    """Somebody with a working folder and a registry in it."""

    folder: Path
    python: Path = Path(sys.executable)

    def tuneforge(self, *arguments: str) -> Answer:
        settings = {key: value for key, value in os.environ.items() if key != "TUNEFORGE_HOME"}
        done = subprocess.run(
            [str(self.python), "-m", "tuneforge.cli", *arguments],
            cwd=self.folder,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def record(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / ".tuneforge" / "runs" / f"{run}.json").read_text())
        return found


@pytest.fixture
def person(tmp_path: Path) -> Person:
    folder = tmp_path / "person"
    folder.mkdir()
    return Person(folder)
