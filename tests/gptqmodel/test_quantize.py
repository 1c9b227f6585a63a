"""GPTQ and AWQ on models fine-tuned from the built-in one, each library in its own environment.

The environments are made in the first run of all, from a package index that uv can reach.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.core.bench import Bench, statuses, step_of
from tests.gguf.small_models import byte_level, write_model
from tests.gptqmodel.conftest import ORDERS
from tuneforge import Model
from tuneforge.artifacts import read_json, read_tensors
from tuneforge.environments import environment_for, make
from tuneforge_gptqmodel.architectures import KNOWN
from tuneforge_gptqmodel.awq import Awq
from tuneforge_gptqmodel.backends import NEEDS
from tuneforge_gptqmodel.gptq import Gptq

pytestmark = [pytest.mark.slow, pytest.mark.network]

TUNED = f"""extensions: {{parity: false}}
steps:
  base: {{load_model: builtin}}
  chats: {{format: chat, with: {{path: {ORDERS}, holdout: 0.05, limit: 400}}}}
  tuned:
    {{train: sft, model: base, data: chats, with: {{steps: 40, batch_size: 8, max_length: 128, learning_rate: 1e-3}}}}
"""
QUANTIZED = "  {name}: {{quantize: {method}, model: tuned, data: chats, with: {{group_size: 32, rows: 32, {rest}}}}}\n"
SCORES = (
    "  scores:\n"
    "    {{evaluate: generation, models: [tuned, {names}], data: chats, with: {{limit: 16, max_new_tokens: 24}}}}\n"
)

LISTS = {
    "gptqmodel": "from gptqmodel.models.auto import MODEL_MAP as known",
    "auto-gptq": "from auto_gptq.modeling._const import SUPPORTED_MODELS as known",
    "autoawq": "from awq.models.auto import AWQ_CAUSAL_LM_MODEL_MAP as known",
}


def quantized(name: str, method: str, **rest: Any) -> str:
    return QUANTIZED.format(name=name, method=method, rest=", ".join(f"{key}: {rest[key]}" for key in rest))


def folder(bench: Bench, record: dict[str, Any], name: str) -> Path:
    return bench.home / "trees" / str(step_of(record, name)["digest"])


def agreeing(bench: Bench, record: dict[str, Any], name: str) -> float:
    """The share of greedy answers that are the same text as the full model's."""
    lines = (folder(bench, record, "scores") / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    full, other = (step_of(record, step)["digest"] for step in ("tuned", name))
    same = [given["answers"][full] == given["answers"][other] for given in map(json.loads, lines)]
    return sum(same) / len(same)


def test_gptq_and_awq_answer_as_the_model_does_and_are_the_same_bytes_each_time(workshop: Bench) -> None:
    # Rows are shorter than either length: another key, the same calibration, and so the same content.
    recipe = TUNED + quantized("gptq", "gptq", max_length=512) + quantized("again", "gptq", max_length=600)
    recipe += quantized("awq", "awq", max_length=512) + SCORES.format(names="gptq, awq")
    record = workshop.run(recipe)
    assert set(statuses(record).values()) == {"done"}, record
    assert not Path("logs").exists(), "gptqmodel keeps one in the working folder"
    environments = {name: step_of(record, name)["environment"] for name in ("gptq", "again", "awq", "scores")}
    assert len(set(environments.values())) == 1, "what measures the result needs no other one"
    assert step_of(record, "gptq")["key"] != step_of(record, "again")["key"]
    assert step_of(record, "gptq")["digest"] == step_of(record, "again")["digest"]
    tuned = Model.facts(folder(workshop, record, "tuned"))
    for method in (Gptq(group_size=32), Awq(group_size=32)):
        path = folder(workshop, record, method.name)
        assert read_json(path / "config.json") == {
            **tuned.config,
            "quantization_config": json.loads(json.dumps(method.quantization_config())),
        }
        assert {
            name: tensor for name, tensor in read_tensors(path).items() if name != "lm_head.weight"
        } == method.foresee({"model": [tuned]}).tensors
        assert "/" not in json.dumps(read_json(path / "config.json")["quantization_config"])
        assert {"chat_template.jinja", "generation_config.json", "tokenizer.json"} <= {
            each.name for each in path.iterdir()
        }
        figures = step_of(record, method.name)["metrics"]
        assert figures["layers"] == 28 and figures["calibration_rows"] == 32
        assert figures["greedy_agreement"] > 0.8 and figures["kl"] < 0.2
    assert agreeing(workshop, record, "gptq") >= 0.6
    assert agreeing(workshop, record, "awq") >= 0.4


@pytest.mark.whole
def test_a_model_keeps_its_type_but_for_float32(workshop: Bench, tmp_path: Path) -> None:
    half = write_model(tmp_path / "half", byte_level(), dtype=torch.float16, hidden=128, intermediate=128)
    older = write_model(tmp_path / "older", byte_level(), intermediate=128)
    config = read_json(older / "config.json")
    assert config.pop("dtype") == "float32"
    (older / "config.json").write_text(json.dumps(config | {"torch_dtype": "float32"}))
    options = "with: {group_size: 32, rows: 4, max_length: 16}"
    record = workshop.run(
        "extensions: {parity: false}\nsteps:\n"
        f"  half: {{load_model: path, with: {{path: {half}}}}}\n"
        f"  older: {{load_model: path, with: {{path: {older}}}}}\n"
        f"  awq: {{quantize: awq, model: half, {options}}}\n  gptq: {{quantize: gptq, model: older, {options}}}\n"
    )
    assert set(statuses(record).values()) == {"done"}, record
    for name in ("awq", "gptq"):
        path = folder(workshop, record, name)
        assert {tensor.dtype for tensor in read_tensors(path).values()} == {"F16", "I32"}
        written = read_json(path / "config.json")
        assert written["dtype"] == "float16" and "torch_dtype" not in written


@pytest.mark.whole
def test_layers_that_are_loaded_under_other_names_are_told_before_the_work(workshop: Bench, tmp_path: Path) -> None:
    """A model stored without its head is loaded as one with another prefix."""
    bare = write_model(tmp_path / "bare", byte_level(), tied=True, intermediate=128)
    tensors = load_file(bare / "model.safetensors")
    save_file({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, bare / "model.safetensors")
    record = workshop.run(
        "extensions: {parity: false}\nsteps:\n"
        f"  bare: {{load_model: path, with: {{path: {bare}}}}}\n"
        "  gptq: {quantize: gptq, model: bare, with: {group_size: 32, rows: 4, max_length: 16}}\n"
    )
    assert statuses(record)["gptq"] == "failed"
    assert "gptqmodel would leave layers.0.mlp.down_proj" in json.dumps(step_of(record, "gptq"))


@pytest.mark.whole
def test_other_options_of_gptq(workshop: Bench) -> None:
    options = {
        "eight": {"bits": 8},
        "three": {"bits": 3},
        "two": {"bits": 2},
        "ordered": {"act_order": "true", "damping": 0.1},
        "asymmetric": {"symmetric": "false"},
    }
    recipe = TUNED + "".join(quantized(name, "gptq", **given) for name, given in options.items())
    recipe += "  row: {quantize: gptq, model: tuned, data: chats, with: {group_size: -1, rows: 32}}\n"
    recipe += "  own: {quantize: gptq, model: tuned, with: {group_size: 32, rows: 32, max_length: 32}}\n"
    recipe += SCORES.format(names="eight, ordered, asymmetric")
    record = workshop.run(recipe)
    assert set(statuses(record).values()) == {"done"}, record
    kl = {name: step_of(record, name)["metrics"]["kl"] for name in (*options, "row", "own")}
    assert kl["eight"] < kl["ordered"] < kl["three"] < kl["two"], kl
    assert kl["eight"] < 0.01 and max(kl["asymmetric"], kl["row"], kl["own"]) < 0.5, kl
    sizes = {name: step_of(record, name)["metrics"]["bytes"] for name in options}
    assert sizes["two"] < sizes["three"] < sizes["ordered"] < sizes["eight"]
    assert agreeing(workshop, record, "eight") >= 0.9
    order = read_json(folder(workshop, record, "ordered") / "config.json")["quantization_config"]
    assert order["desc_act"] is True and order["damp_percent"] == 0.1


@pytest.mark.whole
def test_awq_again_and_without_zero_points(workshop: Bench) -> None:
    recipe = TUNED + quantized("awq", "awq", max_length=512) + quantized("again", "awq", max_length=600)
    recipe += quantized("symmetric", "awq", zero_point="false")
    record = workshop.run(recipe)
    assert set(statuses(record).values()) == {"done"}, record
    assert step_of(record, "awq")["digest"] == step_of(record, "again")["digest"]
    figures = step_of(record, "symmetric")["metrics"]
    assert figures["kl"] < 0.5
    config = read_json(folder(workshop, record, "symmetric") / "config.json")["quantization_config"]
    assert config["zero_point"] is False


@pytest.mark.whole
def test_autoawq_quantizes_on_a_cpu_and_gptqmodel_runs_what_it_made(workshop: Bench) -> None:
    recipe = TUNED + quantized("old", "awq", max_length=512, backend="autoawq")
    recipe += quantized("again", "awq", max_length=600, backend="autoawq") + SCORES.format(names="old")
    record = workshop.run(recipe)
    assert set(statuses(record).values()) == {"done"}, record
    versions = record["environments"][step_of(record, "old")["environment"]]
    assert versions["autoawq"] == "0.2.9" and versions["transformers"].startswith("4.51.")
    assert step_of(record, "old")["environment"] != step_of(record, "scores")["environment"]
    assert step_of(record, "old")["metrics"]["kl"] < 0.5
    assert agreeing(workshop, record, "old") >= 0.3


@pytest.mark.whole
def test_a_quantized_model_can_be_talked_to(workshop: Bench) -> None:
    recipe = TUNED + quantized("gptq", "gptq") + SCORES.format(names="gptq")
    record = workshop.run(recipe)
    first = json.loads((folder(workshop, record, "scores") / "answers.jsonl").read_text().splitlines()[0])
    digest = str(step_of(record, "gptq")["digest"])
    ended = subprocess.run(
        [sys.executable, "-m", "tuneforge.cli", "--home", str(workshop.home), "chat", digest, "--max-tokens", "24"],
        input=first["prompt"][-1]["content"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == first["answers"][digest]
    assert "installing" not in ended.stderr, "it speaks from the environment that is there"


@pytest.mark.whole
@pytest.mark.parametrize("backend", [*NEEDS])
def test_each_library_knows_the_architectures_that_are_written_here(backend: str, workshop: Bench) -> None:
    made = make(environment_for(NEEDS[backend], workshop.home), workshop.home, print)
    code = f"{LISTS[backend]}; import json; print('KNOWN' + json.dumps(sorted(known)))"
    ended = subprocess.run([str(made.python), "-c", code], capture_output=True, text=True, check=True)
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("KNOWN")]
    assert set(json.loads(line.removeprefix("KNOWN"))) == KNOWN[backend]


@pytest.mark.whole
def test_auto_gptq_is_refused_where_there_is_no_gpu(workshop: Bench) -> None:
    plan = workshop.plan(TUNED + quantized("old", "gptq", backend="auto-gptq"))
    (error,) = plan.errors
    assert "auto-gptq 0.7.1 quantizes on an NVIDIA GPU only" in error.problem
    assert "backend: gptqmodel" in error.fix
