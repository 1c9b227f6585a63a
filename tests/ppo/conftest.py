"""PPO in its own environment, which is made in the first run of all, on a model that has learnt two ways to answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from tests.trl.colours import COLOURS
from tests.trl.conftest import Run, base, carry_out, make_chats, make_pairs  # noqa: F401 - fixtures
from tuneforge import Artifact, Model, PromptData
from tuneforge.environments import lent
from tuneforge.kit.rows import write_rows
from tuneforge.workers import Outcome, Server
from tuneforge_ppo.ppo import NEEDS, Ppo
from tuneforge_trl.reward import Reward
from tuneforge_trl.sft import Sft


def installed() -> tuple[str, str]:
    """What the tests' own environment holds, and what is wrong with it."""
    told = []
    for command in ("freeze", "check"):
        ended = subprocess.run(
            [find_uv_bin(), "pip", command, "--python", sys.executable], capture_output=True, text=True, check=False
        )
        told.append(ended.stdout + (ended.stderr if ended.returncode else ""))
    return told[0], told[1]


@dataclass
class Place:
    """PPO's environment: a worker of it, and what the tests' own was before that was made, and after."""

    worker: Server
    before: tuple[str, str]
    after: tuple[str, str]


@pytest.fixture(scope="session")
def place(pytestconfig: pytest.Config) -> Iterator[Place]:
    given = os.environ.get("TUNEFORGE_TEST_CACHE")
    home = Path(given) if given else pytestconfig.cache.mkdir("environments")
    before = installed()
    environment = lent(NEEDS, ["tuneforge_ppo"], home, print)
    reading, writing = os.pipe()
    worker = Server(environment, 1, reading)
    yield Place(worker, before, installed())
    worker.stop()
    os.close(reading)
    os.close(writing)


@dataclass
class Done:
    """A step of PPO that was carried out."""

    folder: Path
    outcome: Outcome
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, Any]:
        assert not self.outcome.problem, (self.outcome.problem, self.outcome.traceback)
        return self.outcome.metrics

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def files(self) -> dict[str, bytes]:
        assert not self.outcome.problem, (self.outcome.problem, self.outcome.traceback)
        return {path.name: path.read_bytes() for path in sorted((self.folder / "out").iterdir())}


@pytest.fixture(scope="session")
def align(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Done]:
    """Has the worker carry PPO out, in a folder of its own unless one is given."""

    def align(
        method: Ppo,
        inputs: dict[str, Artifact],
        folder: Path | None = None,
        watch: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> Done:
        folder = folder or tmp_path_factory.mktemp("ppo")
        for name in ("out", "scratch"):
            (folder / name).mkdir(exist_ok=True)
        done = Done(folder, Outcome())

        def tell(event: dict[str, Any]) -> None:
            done.events.append(event)
            watch(event)

        request = {
            "name": "ppo",
            "file": None,
            "module": Ppo.__module__,
            "class": "Ppo",
            "next": None,
            "config": method.model_dump(mode="json"),
            "inputs": {name: [told(artifact)] for name, artifact in inputs.items()},
            **{name: str(folder / name) for name in ("out", "scratch", "log", "local")},
            "seed": 1,
            "threads": 1,
            "lineage": {},
            "launch": None,
        }
        done.outcome = place.worker.carry_out(request, tell)
        # Where those of other steps are that another process has carried out: which options it has read.
        (folder / "runs").mkdir(exist_ok=True)
        read = {"steps": [{"reads": done.outcome.reads}]}
        (folder / "runs" / "ppo.json").write_text(json.dumps(read))
        return done

    return align


def told(artifact: Artifact) -> dict[str, Any]:
    return {
        "kinds": [artifact.kind],
        "path": str(artifact.path),
        "digest": artifact.digest,
        "base": told(artifact.base) if artifact.base else None,
    }


def _asked(thing: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": thing}]


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> PromptData:
    folder = tmp_path_factory.mktemp("prompts")
    rows = [{"prompt": _asked(thing), "reference": colour, "tools": None} for thing, colour in COLOURS.items()]
    write_rows(folder, "train", rows)
    write_rows(folder, "held_out", rows)
    return PromptData(folder, "5" * 64)


@pytest.fixture(scope="session")
def styles(make_chats: Any) -> Any:  # noqa: F811
    """Each colour said twice: bare, and in a sentence."""
    return make_chats(
        [
            {"messages": _asked(thing) + _said(text), "tools": None}
            for thing, colour in COLOURS.items()
            for text in (colour, f"I {colour}")
        ]
    )


@pytest.fixture(scope="session")
def preferences(make_pairs: Any) -> Any:  # noqa: F811
    return make_pairs(
        [
            {"prompt": _asked(thing), "chosen": _said(colour), "rejected": _said(worse), "tools": None}
            for (thing, colour), other in zip(COLOURS.items(), reversed(COLOURS.values()), strict=True)
            for worse in (f"I {colour}", "", f"I {other}", "I I I")
        ]
    )


@pytest.fixture(scope="session")
def whole(base: Model, styles: Any, preferences: Any, carry_out: Callable[..., Run]) -> dict[str, Any]:  # noqa: F811
    """A full model that answers in either way, and a full reward model."""
    tuned = carry_out(Sft(steps=120, batch_size=14, learning_rate=5e-3), base, styles).result
    reward = carry_out(Reward(steps=30, batch_size=28, learning_rate=1e-3, center=0.01), base, preferences).result
    return {"model": tuned, "reward_model": reward}


@pytest.fixture(scope="session")
def adapters(whole: dict[str, Any], styles: Any, preferences: Any, carry_out: Callable[..., Run]) -> dict[str, Any]:  # noqa: F811
    """The same as adapters on one base."""
    base = replace(whole["model"], digest="e" * 64)  # noqa: F811 - another
    lora = {"type": "lora", "r": 8}
    tuned = carry_out(Sft(steps=20, batch_size=14, learning_rate=5e-3, adapter=lora), base, styles).result
    reward = carry_out(
        Reward(steps=30, batch_size=28, learning_rate=1e-2, center=0.01, adapter=lora), base, preferences
    ).result
    return {"model": tuned, "reward_model": reward}
