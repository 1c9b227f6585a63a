"""Which layers are to be stored in fewer bits, and what is said where they are not."""

from __future__ import annotations

import pytest

from tuneforge import StepError
from tuneforge.artifacts import Tensor
from tuneforge.kit.packed import apart_layers, check_packed, linear_layers, stored_type

NAMES = (
    "model.embed_tokens",
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.mlp.experts.11.up_proj",
    "model.layers.0.mlp.gate",
    "model.layers.1.block_sparse_moe.wg",
    "model.layers.2.mlp.down_proj",
    "model.visual.blocks.0.mlp.fc1",
    "model.visual.pos_embed",
    "model.embed_vision.embedding_projection",
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


FULL = {f"a.{name}.weight": Tensor("BF16", (8, 8)) for name in ("0.b", "0.c", "0.mlp.gate")}
PACKED = {"a.0.b.qweight": Tensor("I32", (8, 1))}
KEPT = {name: tensor for name, tensor in FULL.items() if not name.startswith("a.0.b")}
FUSED = {"a.0.experts.up_proj": Tensor("BF16", (4, 8, 8))}


def test_a_layer_that_was_left_or_lost_is_told_but_not_one_that_was_skipped() -> None:
    check_packed(FULL, {}, PACKED | KEPT, ["c"], "it")
    with pytest.raises(StepError, match=r"it left 1 linear layers as they were: a\.0\.c"):
        check_packed(FULL, {}, PACKED | KEPT, [], "it")
    with pytest.raises(StepError, match=r"it left 2 linear layers as they were: a\.0\.b, a\.0\.c"):
        check_packed(FULL, {}, {}, [], "it")


def test_experts_that_are_stored_together_and_were_left_are_told() -> None:
    with pytest.raises(StepError, match=r"it left 1 linear layers as they were: a\.0\.experts\.up_proj"):
        check_packed(FULL | FUSED, {}, PACKED | KEPT | FUSED, ["c"], "it")
    check_packed(FULL | FUSED, {}, PACKED | KEPT | FUSED, ["c", "experts"], "it")
    apart = {"a.0.experts.0.up_proj.weight_packed": Tensor("I32", (8, 1))}
    check_packed(FULL | FUSED, {}, PACKED | KEPT | apart, ["c"], "it")


@pytest.mark.parametrize("layer", ["a.0.mlp.gate", "a.0.c"])
def test_a_router_or_a_skipped_layer_that_was_rounded_is_told(layer: str) -> None:
    rounded = {name: tensor for name, tensor in KEPT.items() if name != f"{layer}.weight"}
    rounded[f"{layer}.qweight"] = Tensor("I32", (8, 1))
    with pytest.raises(StepError, match=f"it rounded 1 layers that are to stay as they are: {layer}"):
        check_packed(FULL, {}, PACKED | rounded, ["c"], "it")


def test_a_prefix_that_transformers_puts_before_the_names_is_no_loss() -> None:
    check_packed(FULL, {}, {f"transformer.{name}": tensor for name, tensor in (PACKED | KEPT).items()}, ["c"], "it")


def test_libraries_are_told_what_stays_as_it_is() -> None:
    assert apart_layers(TENSORS) == [
        "model.layers.0.mlp.gate",
        "model.layers.1.block_sparse_moe.wg",
        "model.visual.blocks.0.mlp.fc1",
        "model.embed_vision.embedding_projection",
    ]


def test_a_model_is_stored_in_the_type_that_most_of_it_has() -> None:
    assert stored_type(TENSORS | {"norm": Tensor("F32", (8,)), "mask": Tensor("I64", (99, 99))}) == "BF16"
    assert stored_type({}) == stored_type({"mask": Tensor("I64", (99, 99))}) == ""
