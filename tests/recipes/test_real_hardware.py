"""Recipes for models that no test machine holds: planned with the real models' shapes, on files without weights."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from tuneforge.launch.hardware import Hardware
from tuneforge.plan import Plan, make_plan
from tuneforge.recipe import find_recipe, read_recipe
from tuneforge_registry import Registry

BUILTIN = Path(__file__).parents[2] / "plugins" / "tuneforge_models" / "builtin" / "tiny"
SIZES = {
    "llama-3.1-8b-qlora": {"hidden": 4096, "inner": 14336, "layers": 32, "heads": 32},
    "llama-3.1-70b-fsdp-qlora": {"hidden": 8192, "inner": 28672, "layers": 80, "heads": 64},
}


def llama(folder: Path, hidden: int, inner: int, layers: int, heads: int) -> Path:
    """A folder with the configuration and the tensor shapes of a Llama 3.1, whose weights are a hole in the disk."""
    shutil.copytree(BUILTIN, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = json.loads((BUILTIN / "config.json").read_text(encoding="utf-8"))
    config |= {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shapes: dict[str, list[int]] = {"model.embed_tokens.weight": [128256, hidden], "lm_head.weight": [128256, hidden]}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name, rows, columns in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", 1024, hidden),
            ("self_attn.v_proj", 1024, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ):
            shapes[f"{at}.{name}.weight"] = [rows, columns]
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}.{name}.weight"] = [hidden]
    shapes["model.norm.weight"] = [hidden]
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return folder


def planned(recipe: str, folder: Path, *settings: str, gpus: int) -> Plan:
    model = llama(folder / "model", **SIZES[recipe])
    base = f"steps.base={{load_model: path, with: {{path: {model}}}}}"
    read = read_recipe(find_recipe(recipe), [base, *settings])
    digests = folder / "home"
    digests.mkdir()
    return make_plan(read, Registry(digests), hardware=Hardware(gpus=gpus, cores=64))


@pytest.mark.parametrize("recipe", SIZES)
def test_it_can_be_planned_on_such_a_machine(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The weights are never read, and their content is nothing that a digest could be made of in this time.
    monkeypatch.setattr("tuneforge.sources.Digests.of", lambda self, path: "0" * 64)
    plan = planned(recipe, tmp_path, gpus=8)
    assert [str(finding) for finding in plan.errors] == []
    # That the merged model is not quite what was trained is the only thing to say.
    problems = [finding.problem for finding in plan.findings]
    assert all("rounded to nf4" in problem for problem in problems), problems


def test_values_out_of_the_usual_are_told_for_a_model_of_this_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneforge.sources.Digests.of", lambda self, path: "0" * 64)
    settings = ("steps.sft.with.learning_rate=1e-2", "steps.sft.with.epochs=9", "steps.sft.with.adapter.r=2")
    plan = planned("llama-3.1-8b-qlora", tmp_path, *settings, gpus=1)
    said = " ".join(finding.problem for finding in plan.findings if finding.level == "warning")
    assert not plan.errors
    assert all(name in said for name in ("learning_rate 0.01 is above", "epochs 9 is above", "r 2 is below"))


def test_without_a_gpu_the_sharded_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneforge.sources.Digests.of", lambda self, path: "0" * 64)
    plan = planned("llama-3.1-70b-fsdp-qlora", tmp_path, gpus=0)
    assert any("fsdp needs a GPU" in finding.problem for finding in plan.errors)
