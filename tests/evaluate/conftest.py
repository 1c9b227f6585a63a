"""A tiny Llama that knows three answers by heart, one that knows nothing, an adapter, and rows to measure them on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerBase

from tuneforge import Adapter, ChatData, Method, Model, PreferenceData, Step
from tuneforge.artifacts import read_json
from tuneforge.kit.chats import tokenize_chat
from tuneforge.kit.models import load_model, load_tokenizer, save_adapter, save_model
from tuneforge.kit.rows import write_rows
from tuneforge_models import fresh

CONTEXT = 384

KNOWN = [
    ("one pear for Kim", '{"name": "Kim", "items": {"pear": 1}}'),
    (
        "please send two apples and a plum to Ada in the old mill",
        'Sure!\n{"name": "Ada", "items": {"apple": 2, "plum": 1}}',
    ),
    ("hello", "Hello, what would you like?"),
]
"""Prompts of different lengths with their answers."""


@dataclass
class World:
    """Everything that is measured."""

    folder: Path
    known: Model
    blank: Model
    adapter: Adapter
    tokenizer: PreTrainedTokenizerBase

    def chats(self, rows: Sequence[Mapping[str, Any]], split: str = "held_out") -> ChatData:
        return ChatData(self._write(rows, split), "data")

    def pairs(self, rows: Sequence[Mapping[str, Any]]) -> PreferenceData:
        return PreferenceData(self._write(rows, "held_out"), "data")

    def _write(self, rows: Sequence[Mapping[str, Any]], split: Any) -> Path:
        folder = self.folder / f"data-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        write_rows(folder, split, rows)
        return folder

    def copy(self, model: Model, digest: str, file: str, change: Callable[[dict[str, Any]], None]) -> Model:
        """The model with one of its JSON files changed."""
        folder = self.folder / digest
        shutil.copytree(model.path, folder)
        content = read_json(folder / file)
        change(content)
        (folder / file).write_text(json.dumps(content))
        return Model(folder, digest)

    def run(self, method: Method, models: list[Any], data: Any, **more: Any) -> Result:
        out = self.folder / f"out-{len(list(self.folder.iterdir()))}"
        out.mkdir()
        events: list[dict[str, Any]] = []
        step = Step("scores", out, out / "scratch", 0, 1, events.append)
        method.run(models, data, **more, step=step)
        return Result(out, events, step.figures)


@dataclass
class Result:
    """What a method wrote and said."""

    out: Path
    events: list[dict[str, Any]]
    figures: dict[str, Any]

    @property
    def report(self) -> dict[str, Any]:
        return read_json(self.out / "report.json")

    @property
    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "answers.jsonl").read_text().splitlines()]

    @property
    def log(self) -> str:
        return "\n".join(event["text"] for event in self.events if event["event"] == "log")


def chat(*turns: str, tools: list[Any] | None = None) -> dict[str, Any]:
    """A row of user and assistant turns, one after the other."""
    roles = ("user", "assistant")
    return {
        "messages": [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)],
        "tools": tools,
    }


@pytest.fixture(scope="session")
def known_rows() -> list[dict[str, Any]]:
    return [chat(*turns) for turns in KNOWN]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, known_rows: list[dict[str, Any]]) -> Iterator[World]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("world")
    tokenizer = fresh.make_tokenizer([text for turns in KNOWN for text in turns], 320)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "layers": 2, "heads": 2, "kv_heads": 1, "context": CONTEXT}
    made = fresh.make_model("llama", tokenizer, **sizes, tied=False, dtype=torch.float32, seed=0)
    artifacts = []
    for name, train in (("blank", False), ("known", True)):
        if train:
            memorise(made, [tokenize_chat(tokenizer, row["messages"]) for row in known_rows])
        (folder / name).mkdir()
        save_model(made, tokenizer, folder / name, torch.float32)
        artifacts.append(Model(folder / name, name))
    blank, known = artifacts
    (folder / "adapter").mkdir()
    torch.manual_seed(0)
    lora = get_peft_model(load_model(known, dtype=torch.float32), LoraConfig(r=4, init_lora_weights=False))
    save_adapter(lora, load_tokenizer(known), folder / "adapter", known)
    yield World(folder, known, blank, Adapter(folder / "adapter", "adapter", known), tokenizer)
    torch.set_num_threads(threads)


def memorise(model: Any, rows: list[Any]) -> None:
    """Plain steps of AdamW on one row at a time, until the answers are known by heart."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        losses = []
        for row in rows:
            loss = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss
            loss.backward()
            losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
        if max(losses) < 0.01:
            return
    raise AssertionError(f"nothing learnt: {losses}")
