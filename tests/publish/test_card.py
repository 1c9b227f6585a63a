"""The model card: valid metadata, true figures, and commands that run as they stand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tuneforge import Adapter, Model, QuantizedModel
from tuneforge_publish.lineage import Lineage
from tuneforge_publish.parts import Part
from tuneforge_publish.usage import usage

OPTIONS = {
    "title": "Order taker",
    "license": "apache-2.0",
    "language": ["en"],
    "base_model": None,
    "datasets": ["org/orders"],
}


@pytest.fixture(scope="module")
def release(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    artifacts = [made.adapter, made.gguf]
    made.publish(folder / "receipt", artifacts, [made.report], to=folder / "out", **OPTIONS)
    return folder / "out"


@pytest.fixture(scope="module")
def card(release: Path) -> str:
    return (release / "README.md").read_text(encoding="utf-8")


def test_the_metadata_is_what_the_hub_reads(release: Path) -> None:
    card = ModelCard.load(release / "README.md")  # offline; checks types and known keys
    known = card.data.to_dict()
    assert known.pop("model-index")[0]["name"] == "Order taker"
    assert known == {
        "license": "apache-2.0",
        "language": ["en"],
        "datasets": ["org/orders"],
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["tuneforge", "gguf", "lora", "sft", "conversational"],
    }


def test_scores_become_the_hubs_evaluation_results(release: Path) -> None:
    card = ModelCard.load(release / "README.md")
    (result,) = card.data.eval_results
    assert result == EvalResult(
        task_type="text-generation",
        task_name="scores",
        dataset_type="orders",
        dataset_name="orders.jsonl",
        dataset_split="held_out",
        metric_type="exact_match",
        metric_name="exact match",
        metric_value=0.81,
    ), "of the adapter; the base was scored as well, and is not released"
    again = ModelCardData(model_name=card.data.model_name, eval_results=card.data.eval_results)
    assert again.to_dict()["model-index"] == card.data.to_dict()["model-index"]
    assert ModelCard(card.content).content == card.content


def test_nothing_is_stated_that_nobody_said(made: Any, tmp_path: Path) -> None:
    made.publish(tmp_path / "receipt", [made.base], to=tmp_path / "out")
    data = ModelCard.load(tmp_path / "out" / "README.md").data.to_dict()
    assert {"license", "language", "base_model", "datasets"}.isdisjoint(data)
    assert data["library_name"] == "transformers"
    assert "# orders\n" in (tmp_path / "out" / "README.md").read_text(), "the recipe's name stands in for a title"


def test_the_lineage_is_a_tree_with_digests(card: str) -> None:
    assert (
        """\
```text
sft  train: sft  adapter aaaaaaaaaaaa
├── model: base  load_model: builtin  model bbbbbbbbbbbb
└── data: chats  format: chat  chat-data dddddddddddd
small  quantize: gguf  gguf cccccccccccc
└── model: sft  train: sft  adapter aaaaaaaaaaaa  (as above)
```"""
        in card
    )


def test_rows_left_out_are_counted_by_reason(card: str) -> None:
    assert "| chats | 8 | 1 | 1: no answer; 2: longer than 64 tokens \\| cut |" in card


def test_scores_are_told_by_step_names(card: str) -> None:
    assert "**scores** (`evaluate: generation`), on 20 rows of the held-out part:" in card
    assert "|  | exact match |\n| --- | --- |\n| base | 0 |\n| sft | 0.81 |" in card


def test_parameters_of_every_step_are_there(card: str) -> None:
    assert "small:\n  quantize: gguf\n  model: sft\n  with:\n    type: q8_0\n    rows: 0\n```" in card, (
        "and unset ones not"
    )
    assert card.count("# method version 1, seed 7") == 5


@pytest.mark.slow  # imports PEFT in a new interpreter
def test_the_transformers_commands_run(made: Any, release: Path, tmp_path: Path) -> None:
    """In one interpreter, for the sake of time: every block of the cards of three releases, each with fresh names."""
    made.publish(tmp_path / "1", [made.base], to=tmp_path / "model")
    made.publish(tmp_path / "2", [made.adapter], to=tmp_path / "adapter")
    blocks = []
    for folder in (release, tmp_path / "model", tmp_path / "adapter"):
        (block,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
        blocks.append((str(folder), block))
    script = (
        f"import os\nfor folder, block in {blocks!r}:\n    os.chdir(folder)\n    exec(block, {{}})\n    print('ran')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ran") == 3


def test_the_llama_cpp_commands_name_the_file(card: str, release: Path) -> None:
    named = re.findall(r"llama-(?:cli|server) -m (\S+)", card)
    assert len(named) == 2 and all((release / file).is_file() for file in named)


def test_a_bottleneck_adapter_is_loaded_with_what_knows_it(tmp_path: Path) -> None:
    def told(peft_type: str) -> str:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": peft_type}))
        adapter = Adapter(tmp_path, "a" * 64, Model(tmp_path, "b" * 64))
        return "\n".join(usage([Part("fit", ".", adapter, "org/base", None, True)], Lineage({})))

    assert "pip install torch transformers peft tuneforge\n" in told("BOTTLENECK")
    assert "bottleneck.register()\n" in told("BOTTLENECK")
    assert "tuneforge" not in told("LORA")


def test_weights_with_zero_points_are_loaded_unpacked(tmp_path: Path) -> None:
    def told(symmetric: bool) -> str:
        group = {"weights": {"num_bits": 4, "symmetric": symmetric}, "input_activations": None}
        settings = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"all": group}}
        (tmp_path / "config.json").write_text(json.dumps({"quantization_config": settings}))
        return "\n".join(usage([Part("small", ".", QuantizedModel(tmp_path, "a" * 64), None, None, True)], Lineage({})))

    assert "from transformers import AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig\n" in told(False)
    assert 'dtype="auto", quantization_config=CompressedTensorsConfig(dequantize=True))\n' in told(False)
    assert "CompressedTensorsConfig" not in told(True)
