"""How long a person waits before anything happens: --help, a plan, and a finished recipe run again."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from benchmarks.measure import BIN, report, seconds
from tuneforge.recipe import recipe_folders

# The demonstration with all its steps, each cut as short as it goes: what counts is that it is finished.
_FINISHED = ["dpo-after-sft"]
for _setting in ("sft.with.steps", "dpo.with.steps", "task.with.limit", "manners.with.limit"):
    _FINISHED += ["--set", f"steps.{_setting}=1"]


def main() -> None:
    """Beside `trl sft --help`, which is how the same mistakes are found without us."""
    tuneforge = str(BIN / "tuneforge")
    recipes = sorted(recipe.stem for folder in recipe_folders() for recipe in folder.glob("*.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        home = ["--home", f"{folder}/home"]
        subprocess.run([tuneforge, *home, "run", *_FINISHED], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        commands = {"--help": [tuneforge, "--help"]}
        commands |= {f"plan {name}": [tuneforge, "--home", f"{folder}/none", "plan", name] for name in recipes}
        commands["plan dpo-after-sft, finished"] = [tuneforge, *home, "plan", *_FINISHED]
        commands["run dpo-after-sft, finished"] = [tuneforge, *home, "run", *_FINISHED]
        budgets = {name: {"--help": 0.2, "plan": 0.5, "run": 1.0}[name.split()[0]] for name in commands}
        commands["trl sft --help"] = [str(BIN / "trl"), "sft", "--help"]
        report("startup", seconds(commands, rounds=5, cwd=Path(folder)), budgets)
