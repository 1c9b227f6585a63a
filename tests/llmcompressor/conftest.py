from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trl.colours import CHATS
from tests.tuned import tune
from tuneforge import Model
from tuneforge.plan import make_plan
from tuneforge.recipe import read_recipe
from tuneforge.runner import Run
from tuneforge_registry import Registry


@pytest.fixture(scope="session")
def home(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of its own whose environments are kept from run to run: llm-compressor's is made in the first one."""
    given = os.environ.get("TUNEFORGE_TEST_CACHE")
    cache = Path(given) if given else pytestconfig.cache.mkdir("environments")
    cache.mkdir(parents=True, exist_ok=True)
    made = tmp_path_factory.mktemp("home")
    (made / "envs").symlink_to(cache, target_is_directory=True)
    return made


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The built-in model, tuned on the colours of things."""
    return tune(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="session")
def carry_out(home: Path, tuned: Model, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The record of a run that compresses the tuned model, with a step for each of the given options."""
    chats = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    chats.write_text("".join(json.dumps({"messages": chat["messages"]}) + "\n" for chat in CHATS))

    def carry_out(folder: Path, **steps: dict[str, Any]) -> dict[str, Any]:
        lines = [
            "steps:",
            f"  full: {{load_model: path, with: {{path: {json.dumps(str(tuned.path))}}}}}",
            f"  chats: {{format: chat, with: {{path: {json.dumps(str(chats))}}}}}",
        ]
        for name, options in steps.items():
            data = "data: chats, " if options.pop("measured", True) else ""
            lines.append(f"  {name}: {{quantize: compressed, model: full, {data}with: {json.dumps(options)}}}")
        path = folder / "recipe.yaml"
        path.write_text("\n".join(lines))
        plan = make_plan(read_recipe(path, ()), Registry(home))
        assert not plan.errors, [str(finding) for finding in plan.findings]
        return Run(plan, print, threads=1).carry_out()

    return carry_out
