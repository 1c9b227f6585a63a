"""The demonstration, killed again and again by `python -m tests.crashes`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHORTER = {
    "steps.chats.with.limit": 300,
    "steps.pairs.with.limit": 120,
    "steps.sft.with.steps": 12,
    "steps.sft.with.batch_size": 4,
    "steps.sft.with.save_every": 2,
    "steps.dpo.with.steps": 4,
    "steps.dpo.with.batch_size": 4,
    "steps.dpo.with.save_every": 1,
}


def crashes(*arguments: str) -> str:
    """The last line of what it prints."""
    command = [sys.executable, "-m", "tests.crashes", *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_killed_three_times_the_demonstration_ends_with_the_same() -> None:
    settings = [part for key, value in SHORTER.items() for part in ("--set", f"{key}={value}")]
    assert crashes("--kills", "3", "--during", "--seed", "29", *settings).startswith("3 of 3 kills")


@pytest.mark.whole
def test_killed_at_20_random_moments_and_while_it_trains_merges_and_publishes() -> None:
    assert crashes().startswith("23 of 23 kills")


@pytest.mark.whole
def test_every_kind_of_training_killed_again_and_again() -> None:
    """All weights, LoRA, QLoRA and DoRA on packed rows with dropout, and a reward model."""
    recipe = str(Path(__file__).parent / "trainings.yaml")
    assert crashes("--recipe", recipe, "--kills", "15", "--during", "--seed", "5").startswith("15 of 15 kills")
