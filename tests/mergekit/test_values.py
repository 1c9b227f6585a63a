"""Values by depth, by the names of tensors and by model; and what they are stored as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from tests.mergekit.conftest import Merged, make, tuned, weights
from tuneforge import Model
from tuneforge_mergekit.averages import Linear
from tuneforge_mergekit.layers import Passthrough
from tuneforge_mergekit.pruned import Breadcrumbs, Della, Ties
from tuneforge_mergekit.spheres import NuSlerp, Slerp

Merge = Callable[..., Merged]
Q = "model.layers.{}.self_attn.q_proj.weight"
UP = "model.layers.{}.mlp.up_proj.weight"


def test_a_list_goes_from_the_first_layer_to_the_last(three: list[Model], merge: Merge) -> None:
    found, first, second = merge(Slerp(t=[0, 0, 1]), three[:2]).weights, *map(weights, three[:2])
    for name, tensor in found.items():
        last = ".layers.2." in name  # three layers and three values: each has its own
        assert torch.equal(tensor, (second if last else first)[name]), name
    half = merge(Slerp(t=[0, 1]), three[:2]).weights
    middle = merge(Slerp(t=0.5), three[:2]).weights
    assert torch.equal(half[Q.format(0)], first[Q.format(0)])
    assert torch.equal(half[Q.format(1)], middle[Q.format(1)])
    assert torch.equal(half["lm_head.weight"], first["lm_head.weight"])


def test_the_first_filter_that_fits_counts(three: list[Model], merge: Merge) -> None:
    t = [{"filter": "self_attn", "value": 0}, {"filter": "mlp", "value": [1, 1, 0]}, {"value": 1}]
    found, first, second = merge(Slerp(t=t), three[:2]).weights, *map(weights, three[:2])
    for name, tensor in found.items():
        mine = "self_attn" in name or "layers.2.mlp" in name
        assert torch.equal(tensor, (first if mine else second)[name]), name


def test_each_model_can_have_values_of_its_own(base: Model, three: list[Model], merge: Merge) -> None:
    named = [{"filter": "mlp", "value": 1}, {"value": 0}]
    found = merge(Linear(weights=[named, 1, 0]), three).weights
    first, second, _ = map(weights, three)
    assert torch.allclose(found[UP.format(1)], (first[UP.format(1)] + second[UP.format(1)]) / 2, atol=1e-7)
    assert torch.equal(found[Q.format(1)], second[Q.format(1)])
    whole = merge(Ties(densities=1), three, base).weights
    part = merge(Ties(densities=[[1, 1, 0.1], 1, [{"filter": "mlp", "value": 0.1}, {"value": 1}]]), three, base).weights
    same = {name for name in whole if torch.equal(whole[name], part[name])}
    assert same == {name for name in whole if "mlp" not in name and ".layers.2." not in name}


@pytest.mark.parametrize(
    ("method", "other"),
    [
        (Breadcrumbs(densities=0.5), Breadcrumbs(densities=0.5, gamma=0.2)),
        (Breadcrumbs(densities=0.5), Breadcrumbs(densities=0.5, rescale=True)),
        (Della(densities=0.5, epsilon=0.05), Della(densities=0.5, epsilon=0.4)),
        (Della(), Della(normalize=False)),
    ],
    ids=["gamma", "rescale", "epsilon", "normalize"],
)
def test_options_have_effect(
    method: Breadcrumbs | Della, other: Breadcrumbs | Della, base: Model, three: list[Model], merge: Merge
) -> None:
    one, two = (merge(kind, three, base).weights for kind in (method, other))
    assert all(not torch.equal(one[name], two[name]) for name in one if "proj" in name)


def test_breadcrumbs_leave_the_smallest_and_the_largest_out(base: Model, three: list[Model], merge: Merge) -> None:
    found = merge(Breadcrumbs(densities=0.5, gamma=0.1), three[:1], base).weights
    for name, tensor in weights(base).items():
        change = (weights(three[0])[name] - tensor).flatten()
        order, count = change.abs().argsort(), len(change)
        low = count - int(0.5 * count) - int(0.1 * count)
        kept = torch.zeros(count)
        kept[order[low : low + int(0.5 * count)]] = 1
        assert torch.allclose(found[name].flatten(), tensor.flatten() + change * kept, atol=1e-6), name


def test_nuslerp_knows_rows_and_columns_and_may_do_without_a_base(
    base: Model, three: list[Model], merge: Merge
) -> None:
    pair = three[:2]
    kinds = [NuSlerp(), NuSlerp(flatten=False), NuSlerp(flatten=False, row_wise=True), NuSlerp(weights=[3, 1])]
    found = [merge(kind, pair).weights for kind in kinds] + [merge(kinds[0], pair, base).weights]
    name = Q.format(1)
    for at, one in enumerate(found):
        assert all(not torch.equal(one[name], other[name]) for other in found[at + 1 :])


def test_layers_are_stacked_as_asked(three: list[Model], merge: Merge) -> None:
    stack = [
        {"layers": [0, 2]},
        {"model": 1, "layers": [1, 3], "scale": [{"filter": "o_proj", "value": 0}, {"value": 1}]},
    ]
    merged = merge(Passthrough(stack=stack), three[:2])
    found, first, second = merged.weights, *map(weights, three[:2])
    for layer, (model, source) in enumerate([(first, 0), (first, 1), (second, 1), (second, 2)]):
        assert torch.equal(found[Q.format(layer)], model[Q.format(source)])
    assert torch.equal(found["model.embed_tokens.weight"], first["model.embed_tokens.weight"])
    assert torch.equal(found["lm_head.weight"], second["lm_head.weight"])
    assert not found["model.layers.3.self_attn.o_proj.weight"].any()
    twice = merge(Passthrough(stack=[{"layers": [0, 2]}, {"layers": [0, 2]}]), three[:1]).weights
    assert torch.equal(twice[Q.format(0)], twice[Q.format(2)])


def test_it_is_stored_and_computed_as_asked(merge: Merge, tmp_path: Path) -> None:
    base = make(tmp_path / "base", dtype=torch.bfloat16)
    pair = [tuned(base, tmp_path / f"tuned-{seed}", seed) for seed in (1, 2)]

    def mean(**options: str) -> Merged:
        return merge(Linear(**options), pair)

    plain, finer, full, half = mean(), mean(compute_dtype="float32"), mean(dtype="float32"), mean(dtype="float16")
    name = Q.format(1)
    kinds = [str(each.weights[name].dtype).removeprefix("torch.") for each in (plain, finer, full, half)]
    assert kinds == ["bfloat16", "bfloat16", "float32", "float16"]
    exact = sum(weights(model)[name].float() for model in pair) / 2
    assert torch.allclose(finer.weights[name].float(), exact, rtol=2**-8)
    assert [str(AutoConfig.from_pretrained(each.step.out).dtype) for each in (plain, full, half)] == [
        "torch.bfloat16",
        "torch.float32",
        "torch.float16",
    ]
    wide = [pair[0], tuned(make(tmp_path / "wide", dtype=torch.float32), tmp_path / "wide-1", 3)]
    assert merge(Linear(), wide).weights[name].dtype is torch.bfloat16  # as the first model is


def test_weights_are_cut_into_files_of_the_size(three: list[Model], merge: Merge) -> None:
    merged = merge(Linear(shard_size="40kB"), three)
    sizes = [path.stat().st_size for path in merged.step.out.glob("*.safetensors")]
    assert len(sizes) > 1 and max(sizes) < 45_000
    whole = merge(Linear(), three).weights
    assert all(torch.equal(tensor, whole[name]) for name, tensor in merged.weights.items())
