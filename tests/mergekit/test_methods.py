"""Every way of merging runs, and what comes out is a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.mergekit.conftest import SIZES, Merged, weights
from tuneforge import Model
from tuneforge.inputs import inputs_of
from tuneforge.stages import Merge
from tuneforge_mergekit import register_merge
from tuneforge_mergekit.base import ModelMerge

OPTIONS: dict[str, dict[str, Any]] = {
    "passthrough": {"stack": [{"layers": [0, 2]}, {"model": 1, "layers": [1, 3], "scale": 0.5}]},
    "linear": {"weights": [2, 1, [0, 1]]},
    "ties": {"densities": [0.2, 0.5, [{"filter": "mlp", "value": 0.7}, {"value": 1}]]},
}
COUNTS = {"slerp": 2, "nuslerp": 2, "arcee_fusion": 1, "passthrough": 2}


WAYS = [kind for kind in register_merge() if issubclass(kind, ModelMerge)]


@pytest.mark.parametrize("kind", WAYS, ids=lambda kind: kind.name)
def test_every_way_gives_a_model_that_generates(
    kind: type[Merge], base: Model, three: list[Model], merge: Callable[..., Merged]
) -> None:
    rooted = "base" in inputs_of(kind)
    merged = merge(kind(**OPTIONS.get(kind.name, {})), three[: COUNTS.get(kind.name, 3)], base if rooted else None)
    model: Any = AutoModelForCausalLM.from_pretrained(merged.step.out)
    tokenizer = AutoTokenizer.from_pretrained(merged.step.out)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_tensors="pt"
    )
    answer = model.generate(ids["input_ids"], max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > ids["input_ids"].shape[1]
    found, before = merged.weights, [weights(model) for model in (base, *three)]
    assert all(torch.isfinite(tensor).all() for tensor in found.values())
    depth = 4 if kind.name == "passthrough" else SIZES["layers"]
    assert model.config.num_hidden_layers == depth
    assert {name for name in found if "q_proj" in name} == {
        f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(depth)
    }
    name = "model.layers.1.mlp.up_proj.weight" if kind.name != "passthrough" else "model.layers.2.mlp.up_proj.weight"
    assert not any(torch.equal(found[name], each[name]) for each in before if name in each)
    done = [at for at, _ in merged.progress]
    assert done == sorted(done) and merged.progress[-1][0] == merged.progress[-1][1] > len(found) - 1
    assert merged.figures["parameters"] == sum(tensor.numel() for tensor in found.values())
    assert merged.figures["largest_weight"] == pytest.approx(max(float(t.abs().max()) for t in found.values()))
    assert merged.figures["largest_logit"] > 0
