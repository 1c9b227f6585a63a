"""What a recipe would have made: a base model, an adapter on it, a stand-in for a GGUF export, and a report."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.gguf.small_models import rewrite
from tests.hubs import hub, served  # noqa: F401 - fixtures
from tuneforge import Adapter, ChatData, Gguf, GgufAdapter, Model, Publish, QuantizedModel, Release, Report, Step
from tuneforge.kit.models import load_model, load_tokenizer, save_adapter
from tuneforge_publish import Folder


def entry(
    name: str,
    digest: str,
    kind: str,
    method: str,
    inputs: dict[str, list[str]] | None = None,
    base: str | None = None,
    config: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A step of a lineage, as the core tells it."""
    return {
        "name": name,
        "digest": digest,
        "kind": kind,
        "base": base,
        "summary": summary or {},
        "stage": method.split(": ")[0],
        "method": method.split(": ")[1],
        "version": 1,
        "seed": 7,
        "config": config or {},
        "inputs": inputs or {},
    }


def write_report(report: Report, **content: Any) -> None:
    content = {"subjects": list(content["scores"]), "rows": 20, "split": "held_out"} | content
    report.path.mkdir(exist_ok=True)
    (report.path / "report.json").write_text(json.dumps(content))


@dataclass
class Made:
    base: Model
    adapter: Adapter
    gguf: Gguf
    report: Report
    lineage: dict[str, Any]
    gguf_adapter: GgufAdapter | None = None

    def publish(
        self,
        out: Path,
        artifacts: list[Any],
        reports: list[Report] | None = None,
        method: type[Publish] = Folder,
        **options: Any,
    ) -> Release:
        out.mkdir(parents=True)
        step = Step("release", out, out / "scratch", 0, 1, lambda event: None, self.lineage)
        method(**options).run(artifacts, reports, step=step)
        return Release(out, f"release of {out.name}")

    entry = staticmethod(entry)
    write_report = staticmethod(write_report)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    import torch
    from peft import LoraConfig, get_peft_model

    from tuneforge_models import fresh

    folder = tmp_path_factory.mktemp("artifacts")
    for name in ("base", "sft", "gguf", "scores"):
        (folder / name).mkdir()
    tokenizer = fresh.make_tokenizer(["hello world"], 300)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "kv_heads": 1, "context": 256}
    fresh.save(
        fresh.make_model("llama", tokenizer, **sizes, tied=True, dtype=torch.bfloat16, seed=0),
        tokenizer,
        folder / "base",
    )
    base = Model(folder / "base", "b" * 64)
    lora = get_peft_model(load_model(base, dtype=torch.float32), LoraConfig(r=2, init_lora_weights=False))
    save_adapter(lora, load_tokenizer(base), folder / "sft", base)
    (folder / "gguf" / "model-q8_0.gguf").write_bytes(b"GGUF")
    adapter, gguf = Adapter(folder / "sft", "a" * 64, base), Gguf(folder / "gguf", "c" * 64)
    report = Report(folder / "scores", "e" * 64)
    write_report(report, passed=True, scores={base.digest: {"exact_match": 0.0}, adapter.digest: {"exact_match": 0.81}})
    lineage = {
        "recipe": "orders",
        "text": "name: orders\nsteps:\n  base: {load_model: builtin}\n",
        "settings": ["steps.sft.with.learning_rate=1e-4"],
        "steps": [
            entry("base", base.digest, Model.kind, "load_model: builtin", config={"model": "tiny"}),
            entry(
                "chats",
                "d" * 64,
                ChatData.kind,
                "format: chat",
                config={"path": "orders.jsonl@0123456789ab"},
                summary={
                    "shape": "messages",
                    "read": 12,
                    "kept": {"train": 8, "held_out": 1},
                    "left_out": {"no answer": 1, "longer than 64 tokens | cut": 2},
                },
            ),
            entry(
                "sft", adapter.digest, Adapter.kind, "train: sft", {"model": ["base"], "data": ["chats"]}, base.digest
            ),
            entry(
                "small",
                gguf.digest,
                Gguf.kind,
                "quantize: gguf",
                {"model": ["sft"]},
                config={"type": "q8_0", "rows": 0, "matrix": None, "more": {"a": None}},
            ),
            entry(
                "scores",
                report.digest,
                Report.kind,
                "evaluate: generation",
                {"models": ["base", "sft"], "data": ["chats"]},
            ),
        ],
    }
    return Made(base, adapter, gguf, report, lineage)


@pytest.fixture(scope="session")
def exported(made: Made, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Made:
    """The base model as llama.cpp's converter writes it, and an adapter on it in GGUF."""
    import gguf
    import numpy as np

    from tuneforge_gguf.converter import fetch_converter
    from tuneforge_gguf.export import export

    given = os.environ.get("TUNEFORGE_TEST_CACHE")
    cache = Path(given) if given else pytestconfig.cache.mkdir("llama.cpp")  # as the tests of GGUF have it
    folder = tmp_path_factory.mktemp("exported")
    for name in ("model", "adapter"):
        (folder / name).mkdir()
    export(made.base.path, folder / "model", "q8_0", fetch_converter(cache, print), log=lambda _: None)
    writer = gguf.GGUFWriter(folder / "adapter" / "adapter-f16.gguf", "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 4.0)
    chance = np.random.default_rng(0)
    for side, shape in (("a", (2, 32)), ("b", (32, 2))):
        writer.add_tensor(f"blk.0.attn_output.weight.lora_{side}", chance.normal(size=shape).astype(np.float16))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    model, adapter = Gguf(folder / "model", "7" * 64), GgufAdapter(folder / "adapter", "8" * 64, made.base)
    steps = [
        *made.lineage["steps"],
        entry("whole", model.digest, Gguf.kind, "quantize: gguf", {"model": ["base"]}, config={"type": "q8_0"}),
        entry("light", adapter.digest, GgufAdapter.kind, "quantize: gguf_adapter", {"adapter": ["sft"]}),
    ]
    return replace(made, gguf=model, gguf_adapter=adapter, lineage=made.lineage | {"steps": steps})


@pytest.fixture(scope="session")
def quantized(made: Made, tmp_path_factory: pytest.TempPathFactory) -> QuantizedModel:
    """A stand-in for a model in fewer bits: the configuration of one, with the base model's other files."""
    folder = tmp_path_factory.mktemp("quantized")
    shutil.copytree(made.base.path, folder, dirs_exist_ok=True)
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
    rewrite(folder / "config.json", quantization_config=settings)
    return QuantizedModel(folder, "4" * 64)
