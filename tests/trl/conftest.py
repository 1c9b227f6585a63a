"""A Llama of 100,000 parameters that can learn a dozen sentences by heart, and what it is trained on."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trl.colours import CHATS, FEEDBACK, PAIRS, PROMPTS
from tuneforge import Adapter, ChatData, FeedbackData, Model, PreferenceData, PromptData, Step, TextData
from tuneforge.kit.rows import write_rows
from tuneforge.stages import Method
from tuneforge_models import fresh
from tuneforge_trl.sft import Sft


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = fresh.make_tokenizer([message["content"] for chat in CHATS for message in chat["messages"]], 320)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "layers": 2, "heads": 4, "kv_heads": 2, "context": 256}
    model = fresh.make_model("llama", tokenizer, **sizes, tied=False, dtype=torch.bfloat16, seed=1)
    fresh.save(model, tokenizer, folder)
    return Model(folder, "b" * 64)


def _data(folder: Path, train: Iterable[Any], held_out: Iterable[Any]) -> Path:
    write_rows(folder, "train", train)
    write_rows(folder, "held_out", held_out)
    (folder / "data.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def make_chats(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ChatData]:
    def make(train: Iterable[Any] = CHATS, held_out: Iterable[Any] = ()) -> ChatData:
        return ChatData(_data(tmp_path_factory.mktemp("chats"), train, held_out), "c" * 64)

    return make


@pytest.fixture(scope="session")
def make_pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PreferenceData]:
    def make(train: Iterable[Any] = PAIRS, held_out: Iterable[Any] = ()) -> PreferenceData:
        return PreferenceData(_data(tmp_path_factory.mktemp("pairs"), train, held_out), "9" * 64)

    return make


@pytest.fixture(scope="session")
def make_prompts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PromptData]:
    def make(train: Iterable[Any] = PROMPTS, held_out: Iterable[Any] = ()) -> PromptData:
        return PromptData(_data(tmp_path_factory.mktemp("prompts"), train, held_out), "8" * 64)

    return make


@pytest.fixture(scope="session")
def make_texts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TextData]:
    """Text data of documents, and of pairs of a prompt and its completion."""

    def make(train: Iterable[Any], held_out: Iterable[Any] = ()) -> TextData:
        rows = [[_text(text) for text in texts] for texts in (train, held_out)]
        return TextData(_data(tmp_path_factory.mktemp("texts"), *rows), "7" * 64)

    return make


@pytest.fixture(scope="session")
def make_feedback(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FeedbackData]:
    def make(train: Iterable[Any] = FEEDBACK, held_out: Iterable[Any] = ()) -> FeedbackData:
        return FeedbackData(_data(tmp_path_factory.mktemp("feedback"), train, held_out), "8" * 64)

    return make


def _text(text: str | tuple[str, str]) -> dict[str, str | None]:
    prompt, completion = text if isinstance(text, tuple) else (None, text)
    return {"prompt": prompt, "completion": completion}


class Run:
    """A step that was carried out: its result, what it reported on the way, and its figures.

    `more` are its other inputs.
    """

    def __init__(
        self, method: Method, model: Model | Adapter, data: Any, folder: Path, reference: Any = None, **of_step: Any
    ) -> None:
        self.events: list[dict[str, Any]] = []
        for name in ("out", "scratch"):
            (folder / name).mkdir(exist_ok=True)
        send = of_step.pop("send", self.events.append)
        inputs: dict[str, Any] = {"model": model, "data": data, **of_step.pop("more", {})}
        if reference is not None:
            inputs["reference"] = reference
        self.step = Step("fit", folder / "out", folder / "scratch", seed=1, threads=1, send=send)
        if method.prepare is not None:
            method.prepare(**inputs, step=self.step)
        method.run(**inputs, step=self.step)
        self.figures = self.step.figures
        self.losses = [event["figures"]["loss"] for event in self.events if event["event"] == "progress"]
        self.log = [event["text"] for event in self.events if event["event"] == "log"]
        self.warnings = [event["problem"] for event in self.events if event["event"] == "warning"]
        base = (model.base or model) if (self.step.out / "adapter_config.json").exists() else None
        kind: Any = method.writes({"model": [type(model)]})
        assert not list(kind.missing(self.step.out))
        self.result: Any = kind(self.step.out, "f" * 64, base)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.step.out.iterdir())}


@pytest.fixture(scope="session")
def carry_out(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Runs a method on a model and data, in a folder of its own unless one is given."""

    def carry_out(method: Method, model: Model | Adapter, data: Any, folder: Path | None = None, **of_step: Any) -> Run:
        return Run(method, model, data, folder or tmp_path_factory.mktemp("step"), **of_step)

    return carry_out


@pytest.fixture(scope="session")
def whole(base: Model, make_chats: Callable[..., ChatData], carry_out: Callable[..., Run]) -> Run:
    """The model after it has learnt the colours."""
    return carry_out(Sft(steps=100, batch_size=7, learning_rate=5e-3), base, make_chats(held_out=CHATS[:3]))
