"""Which layers are to be stored in fewer bits, and what is said where they are not."""

from __future__ import annotations

import pytest

from tuneforge import StepError
from tuneforge.artifacts import Tensor
from tuneforge.kit.packed import check_packed, linear_layers, stored_type

NAMES = (
    "model.embed_tokens",
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.mlp.experts.11.up_proj",
    "model.layers.0.mlp.gate",
    "model.layers.1.block_sparse_moe.wg",
    "model.layers.2.mlp.down_proj",
    "model.visual.blocks.0.mlp.fc1",
    "mtp.layers.0.mlp.up_proj",
    "mtp.fc",
    "lm_head",
)
TENSORS = {f"{name}.weight": Tensor("BF16", (8, 8)) for name in NAMES}


def test_draft_heads_are_no_layers_to_round() -> None:
    first = ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.experts.11.up_proj"]
    assert linear_layers(TENSORS, {}) == [*first, "model.layers.2.mlp.down_proj"]
    assert linear_layers(TENSORS, {"num_hidden_layers": 2}) == first
    assert linear_layers(TENSORS, {"text_config": {"num_hidden_layers": 2}}) == first


def test_a_layer_that_was_left_or_lost_is_told_but_not_one_that_was_skipped() -> None:
    quantized = {"a.0.b.qweight": Tensor("I32", (8, 1)), "a.0.c.weight": Tensor("BF16", (8, 8))}
    check_packed(["a.0.b", "a.0.c"], quantized, ["a.0.c"], "it")
    with pytest.raises(StepError, match=r"it left 2 linear layers as they were: a.0.c, a.0.d"):
        check_packed(["a.0.b", "a.0.c", "a.0.d"], quantized, [], "it")


def test_a_model_is_stored_in_the_type_that_most_of_it_has() -> None:
    assert stored_type(TENSORS | {"norm": Tensor("F32", (8,)), "mask": Tensor("I64", (99, 99))}) == "BF16"
    assert stored_type({}) == stored_type({"mask": Tensor("I64", (99, 99))}) == ""
