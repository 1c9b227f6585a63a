"""The built-in model, tuned a little, in its forms; and how they are recorded, compared and released."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.gguf.conftest import converter
from tuneforge import Adapter, Artifact, ChatData, Gguf, Model, Report, Step
from tuneforge.kit.chats import tokenize_chat
from tuneforge.kit.models import load_model, load_tokenizer, save_adapter, save_model
from tuneforge.kit.rows import write_rows
from tuneforge_gguf.export import export
from tuneforge_models.shipped import SHIPPED
from tuneforge_parity import CompareProbes, RecordProbe
from tuneforge_parity.kinds import Probe

__all__ = ["converter"]

ORDERS = Path(__file__).parents[2] / "recipes" / "data" / "orders-chat.jsonl"


@dataclass
class Outcome:
    """What a comparison wrote and said."""

    out: Path
    events: list[dict[str, Any]]

    @property
    def report(self) -> Report:
        return Report(self.out, f"report {self.out.name}")

    @property
    def told(self) -> dict[str, Any]:
        return Report.summary(self.out)

    @property
    def scores(self) -> dict[str, float | None]:
        (found,) = self.told["scores"].values()
        return dict(found)

    @property
    def failures(self) -> str:
        return "; ".join(text for given in self.told["failures"].values() for text in given)

    @property
    def warnings(self) -> list[str]:
        return [event["problem"] for event in self.events if event["event"] == "warning"]


@dataclass
class Lab:
    """A tuned adapter on the built-in model, with the data that it was tuned on."""

    folder: Path
    base: Model
    adapter: Adapter
    data: ChatData
    converter: Path
    numbers: Any = field(default_factory=count)

    def new(self, name: str) -> Path:
        folder = self.folder / f"{next(self.numbers)}-{name}"
        folder.mkdir()
        return folder

    def step(self, folder: Path) -> tuple[Step, list[dict[str, Any]]]:
        events: list[dict[str, Any]] = []
        return Step(folder.name, folder, folder / "scratch", 1, 1, events.append), events

    def probe(self, artifact: Artifact, **options: Any) -> Probe:
        step, _ = self.step(self.new("probe"))
        RecordProbe(**options).run(artifact, self.data, step=step)  # type: ignore[arg-type]  # a kind that it takes
        assert not list(Probe.missing(step.out))
        return Probe(step.out, step.out.name)

    def compare(self, reference: Probe, form: Artifact | Probe, **options: Any) -> Outcome:
        probe = form if isinstance(form, Probe) else self.probe(form)
        step, events = self.step(self.new("parity"))
        CompareProbes(**options).run(reference, probe, step)
        return Outcome(step.out, events)

    def merged(
        self, rounded: Callable[[torch.Tensor], torch.Tensor] | None = None, dtype: torch.dtype = torch.bfloat16
    ) -> Model:
        """The adapter merged into its base, or into one whose weights were changed before."""
        model: Any = load_model(self.adapter, dtype=torch.float32)
        if rounded:
            with torch.no_grad():
                for module in model.modules():
                    if hasattr(module, "base_layer"):
                        module.base_layer.weight.copy_(rounded(module.base_layer.weight))
        folder = self.new("merged")
        save_model(model.merge_and_unload(), self.base.path, folder, dtype, like=self.base.path)
        return Model(folder, folder.name)

    def gguf(self, model: Model, kind: str) -> Gguf:
        folder = self.new(kind)
        export(model.path, folder, kind, self.converter, log=lambda text: None)
        return Gguf(folder, folder.name)

    def changed(self, artifact: Any, file: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
        """The artifact with one of its JSON files changed."""
        folder = self.new("changed")
        shutil.copytree(artifact.path, folder, dirs_exist_ok=True)
        path = folder / file
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
        return type(artifact)(folder, folder.name)


def tuned(folder: Path, base: Model, rows: list[dict[str, Any]], seed: int, steps: int = 30) -> Adapter:
    """A LoRA adapter after so many steps on eight rows each."""
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(base)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(load_model(base, dtype=torch.float32), config)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=4e-3)
    for at in range(steps):
        batch = [tokenize_chat(tokenizer, row["messages"]) for row in rows[8 * at : 8 * at + 8]]
        longest = max(len(row.ids) for row in batch)
        ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in batch])
        labels = torch.tensor([row.labels + [-100] * (longest - len(row.ids)) for row in batch])
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save_adapter(model, base.path, folder, base)
    return Adapter(folder, folder.name, base)


@pytest.fixture(scope="session")
def make_lab(tmp_path_factory: pytest.TempPathFactory, converter: Path) -> Callable[[int], Lab]:
    def make(seed: int) -> Lab:
        torch.set_num_threads(1)
        folder = tmp_path_factory.mktemp("lab")
        rows = [json.loads(line) | {"tools": None} for line in ORDERS.read_text().splitlines()[400 * seed :]]
        for name in ("data", "adapter"):
            (folder / name).mkdir()
        write_rows(folder / "data", "train", rows[:300])
        write_rows(folder / "data", "held_out", rows[300:400])
        (folder / "data" / "data.json").write_text("{}")
        base = Model(SHIPPED / "tiny", "base")
        adapter = tuned(folder / "adapter", base, rows, seed)
        return Lab(folder, base, adapter, ChatData(folder / "data", "data"), converter)

    return make


@pytest.fixture(scope="session")
def lab(make_lab: Callable[[int], Lab]) -> Lab:
    return make_lab(1)


@pytest.fixture(scope="session")
def reference(lab: Lab) -> Probe:
    """The probe of the trained form."""
    return lab.probe(lab.adapter)


@pytest.fixture(scope="session")
def merged(lab: Lab) -> Model:
    return lab.merged()


@pytest.fixture(scope="session")
def exported(lab: Lab, merged: Model) -> Gguf:
    return lab.gguf(merged, "q8_0")


def nf4(weight: torch.Tensor) -> torch.Tensor:
    """A weight as 4-bit NormalFloat leaves it, in blocks of 64 (QLoRA, arXiv:2305.14314)."""
    quantiles = torch.distributions.Normal(0, 1).icdf(
        torch.cat([torch.linspace(0.0322917, 0.5, 8)[:-1], torch.linspace(0.5, 0.9677083, 9)])
    )
    levels = quantiles / quantiles.abs().max()
    blocks = weight.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks / scale).unsqueeze(-1).sub(levels).abs().argmin(-1)
    return (levels[nearest] * scale).reshape(weight.shape)


other_base = partial(torch.roll, shifts=1, dims=0)
"""The weights of a model that is another one, though of the same shape and size."""
