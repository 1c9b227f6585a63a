"""Tiny Llamas that were one model, and merges of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tuneforge import Adapter, Model, Step
from tuneforge.stages import Merge
from tuneforge_models import fresh

TEXTS = ("Merging makes one model of several.", "What each has learnt is kept, or a part of it.")
SIZES = {"hidden_size": 32, "intermediate_size": 48, "layers": 3, "heads": 4, "kv_heads": 2, "context": 128}

Tensors = dict[str, torch.Tensor]


def weights(model: Model | Path) -> Tensors:
    """All tensors of a model folder."""
    folder = model if isinstance(model, Path) else model.path
    found: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def make(folder: Path, *, texts: Sequence[str] = TEXTS, vocabulary: int = 290, seed: int = 1, **options: Any) -> Model:
    """A model from nothing; what is not said of it is as of the others here."""
    folder.mkdir(parents=True)
    tokenizer = fresh.make_tokenizer(texts, vocabulary)
    given = SIZES | {"tied": False, "dtype": torch.float32, "architecture": "llama"} | options
    fresh.save(fresh.make_model(given.pop("architecture"), tokenizer, seed=seed, **given), tokenizer, folder)
    return Model(folder, folder.name.ljust(64, "0"))


def tuned(base: Model, folder: Path, seed: int, size: float = 0.02) -> Model:
    """The model after something like a training: each weight has moved a little, some of them further."""
    shutil.copytree(base.path, folder)
    lot = torch.Generator().manual_seed(seed)

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        step = torch.randn(tensor.shape, generator=lot) ** 3 * size
        return (tensor.float() + step).to(tensor.dtype)

    save_file(
        {name: moved(tensor) for name, tensor in weights(base).items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return Model(folder, folder.name.ljust(64, "0"))


def with_head(model: Model, folder: Path) -> Model:
    """A model whose embedding is its head, stored a second time as that."""
    shutil.copytree(model.path, folder)
    found = weights(model)
    twice = found | {"lm_head.weight": found["model.embed_tokens.weight"].clone()}
    save_file(twice, folder / "model.safetensors", {"format": "pt"})
    return Model(folder, folder.name.ljust(64, "0"))


def with_config(model: Model, folder: Path, **settings: Any) -> Model:
    """The same model with other settings in its config.json."""
    shutil.copytree(model.path, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return Model(folder, folder.name.ljust(64, "0"))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def three(base: Model) -> list[Model]:
    return [tuned(base, base.path.with_name(f"tuned-{number}"), number) for number in range(3)]


class Merged:
    """A merge that was carried out: its result, and what it reported."""

    def __init__(self, method: Merge, folder: Path, seed: int, **inputs: Any) -> None:
        self.events: list[dict[str, Any]] = []
        for name in ("out", "scratch"):
            (folder / name).mkdir(parents=True)
        self.step = Step("merged", folder / "out", folder / "scratch", seed=seed, threads=1, send=self.events.append)
        method.run(**inputs, step=self.step)
        self.model = Model(self.step.out, "f" * 64)
        assert not list(Model.missing(self.step.out))
        self.figures = self.step.figures
        self.progress = [(event["done"], event["total"]) for event in self.events if event["event"] == "progress"]

    @property
    def weights(self) -> Tensors:
        return weights(self.model)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.step.out.iterdir())}


@pytest.fixture
def merge(tmp_path: Path) -> Callable[..., Merged]:
    """Carries a merge out, each in a folder of its own."""
    number = count()

    def merge(method: Merge, models: Sequence[Model | Adapter], base: Model | None = None, *, seed: int = 1) -> Merged:
        inputs = {"models": list(models)} | ({"base": base} if base is not None else {})
        return Merged(method, tmp_path / f"merge-{next(number)}", seed, **inputs)

    return merge
