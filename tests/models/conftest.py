from pathlib import Path

import pytest

from tuneforge import Step
from tuneforge_models.new import New


def begin(folder: Path) -> Step:
    """A step with empty folders of its own."""
    (folder / "out").mkdir(parents=True)
    (folder / "scratch").mkdir()
    return Step("base", folder / "out", folder / "scratch", seed=1, threads=1, send=lambda event: None)


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return begin(tmp_path / "step")


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> New:
    """A model of the smallest size, as configured."""
    text = tmp_path_factory.mktemp("text") / "orders.txt"
    text.write_text("".join(f"{n} red lamps for Kim in Oslo, number {n * 7}\n" for n in range(200)), encoding="utf-8")
    return New(tokenizer=text, hidden_size=32, intermediate_size=64, layers=1, vocab_size=300, context=128)


@pytest.fixture(scope="session")
def saved(new: New, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, made: a real model's folder. Not to be written to."""
    step = begin(tmp_path_factory.mktemp("saved"))
    new.run(step=step)
    return step.out
