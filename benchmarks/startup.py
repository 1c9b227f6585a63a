"""How long a person waits before anything happens: --help, plan, and a finished recipe run again."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from benchmarks.measure import BIN, report, seconds


def main() -> None:
    """Beside `trl sft --help`, which is how the same mistakes are found without us."""
    tuneforge = str(BIN / "tuneforge")
    with tempfile.TemporaryDirectory() as folder:
        home = ["--home", f"{folder}/home"]
        recipe = "dpo-after-sft"
        again = [tuneforge, *home, "run", recipe]
        subprocess.run(again, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        times = seconds(
            {
                "tuneforge --help": [tuneforge, "--help"],
                "tuneforge plan dpo-after-sft, nothing cached": [tuneforge, "--home", f"{folder}/none", "plan", recipe],
                "tuneforge plan dpo-after-sft, all cached": [tuneforge, *home, "plan", recipe],
                "tuneforge run dpo-after-sft, all cached": again,
                "trl sft --help": [str(BIN / "trl"), "sft", "--help"],
            },
            rounds=5,
            cwd=Path(folder),
        )
    budgets = {
        "tuneforge --help": 0.2,
        "tuneforge plan dpo-after-sft, nothing cached": 0.5,
        "tuneforge plan dpo-after-sft, all cached": 0.5,
        "tuneforge run dpo-after-sft, all cached": 1.0,
    }
    report("startup", times, budgets)
