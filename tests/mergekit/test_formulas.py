"""What comes out is what the papers say, computed here by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mergekit.merge_methods import TensorEntry, TensorGroup, get

from tests.mergekit.conftest import Merged, Tensors, make, tuned, weights
from tuneforge import Model
from tuneforge_mergekit import dare
from tuneforge_mergekit.averages import Linear
from tuneforge_mergekit.pruned import DareLinear, DareTies, Ties
from tuneforge_mergekit.spheres import Slerp
from tuneforge_mergekit.task_vectors import TaskArithmetic

Merge = Callable[..., Merged]


def all_close(found: Tensors, wanted: Tensors, tolerance: float = 1e-6) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert torch.allclose(tensor, wanted[name], atol=tolerance, rtol=1e-5), name


def changes(models: list[Model], base: Model, name: str) -> list[torch.Tensor]:
    return [weights(model)[name] - weights(base)[name] for model in models]


def test_linear_is_the_weighted_mean(three: list[Model], merge: Merge) -> None:
    before = [weights(model) for model in three]
    for normalize, total in ((True, 6), (False, 1)):
        found = merge(Linear(weights=[1, 2, 3], normalize=normalize), three).weights
        wanted = {
            name: sum((w * each[name] for w, each in zip((1, 2, 3), before, strict=True)), torch.zeros(())) / total
            for name in before[0]
        }
        all_close(found, wanted, 1e-5)


def test_slerp_goes_along_the_sphere(three: list[Model], merge: Merge) -> None:
    """Shoemake 1985: sin((1 - t) a) / sin(a) v0 + sin(t a) / sin(a) v1, with the angle between the two; as in mergekit
    the line where the angle is too small to divide by."""
    first, second = (weights(model) for model in three[:2])

    def between(v0: torch.Tensor, v1: torch.Tensor, t: float) -> torch.Tensor:
        cosine = float((v0 * v1).sum() / (v0.norm() * v1.norm()))
        if abs(cosine) > 0.9995:
            return (1 - t) * v0 + t * v1
        angle = math.acos(cosine)
        return (math.sin((1 - t) * angle) * v0 + math.sin(t * angle) * v1) / math.sin(angle)

    wanted = {name: between(first[name], second[name], 0.3) for name in first}
    all_close(merge(Slerp(t=0.3), three[:2]).weights, wanted, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_slerp_begins_at_its_first_model_and_ends_at_its_second(
    dtype: torch.dtype, merge: Merge, tmp_path: Path
) -> None:
    base = make(tmp_path / "base", dtype=dtype)
    pair = [tuned(base, tmp_path / f"tuned-{seed}", seed) for seed in (1, 2)]
    for t, model in enumerate(pair):
        files = merge(Slerp(t=t), pair).files()
        assert files == {path.name: path.read_bytes() for path in model.path.iterdir()}


def test_task_arithmetic_adds_what_was_learnt(base: Model, three: list[Model], merge: Merge) -> None:
    found = merge(TaskArithmetic(weights=[1, -0.5, 2], scale=0.4), three, base).weights
    for name, tensor in weights(base).items():
        one, two, last = changes(three, base, name)
        assert torch.allclose(found[name], tensor + 0.4 * (one - 0.5 * two + 2 * last), atol=1e-6), name


def ties(deltas: list[torch.Tensor], given: list[float], densities: list[float], normalize: bool) -> torch.Tensor:
    """Algorithm 1 of arXiv:2306.01708: trim, elect a sign, and take the mean, or sum, of those that have it."""
    trimmed = []
    for delta, weight, density in zip(deltas, given, densities, strict=True):
        kept = max(1, int(density * delta.numel()))
        least = delta.abs().flatten().sort(descending=True).values[kept - 1]
        trimmed.append(torch.where(delta.abs() >= least, delta, 0) * weight)
    sign = torch.where(sum(trimmed, torch.zeros(())) >= 0, 1.0, -1.0)
    agreeing = [torch.where(delta.sign() == sign, delta, 0) for delta in trimmed]
    total = sum(agreeing, torch.zeros(()))
    if not normalize:
        return total
    count = sum((w * (part != 0) for w, part in zip(given, agreeing, strict=True)), torch.zeros(()))
    return total / torch.where(count == 0, 1, count)


@pytest.mark.parametrize("normalize", [True, False])
def test_ties_trims_elects_and_merges(normalize: bool, base: Model, three: list[Model], merge: Merge) -> None:
    given, densities = [1.0, 2.0, 0.5], [0.2, 0.5, 0.9]
    method = Ties(weights=given, densities=densities, normalize=normalize, scale=0.7)
    found = merge(method, three, base).weights
    for name, tensor in weights(base).items():
        wanted = tensor + 0.7 * ties(changes(three, base, name), given, densities, normalize)
        assert torch.allclose(found[name], wanted, atol=1e-6), name


def test_dare_keeps_a_part_by_lot_and_divides_it_by_its_share(base: Model, three: list[Model], merge: Merge) -> None:
    """arXiv:2311.03099: a change stays with the chance p, which is 1 - the drop rate, and then is the change / p."""
    results = [merge(DareLinear(densities=0.25), three[:1], base, seed=seed).weights for seed in (1, 1, 2)]
    kept: list[torch.Tensor] = []
    for name, tensor in weights(base).items():
        (change,) = changes(three[:1], base, name)
        for found in results:
            there = (found[name] - tensor).abs() > 1e-9
            assert torch.allclose(found[name], tensor + there * change / 0.25, atol=1e-5), name
            kept.append(there.flatten() & (change.flatten().abs() > 1e-7))
        assert torch.equal(results[0][name], results[1][name])
    for found in (torch.cat(kept[at::3]).float() for at in range(3)):
        assert float(found.mean()) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / len(found)))
    one, again, other = (torch.cat(kept[at::3]) for at in range(3))
    assert torch.equal(one, again) and not torch.equal(one, other)


def group(base: torch.Tensor, models: list[torch.Tensor]) -> TensorGroup:
    entries = [TensorEntry(id=number, tensor=tensor) for number, tensor in enumerate(models)]
    return TensorGroup(entries=(*entries, TensorEntry(id="base", tensor=base, is_base=True)))


def test_the_expectation_of_dare_is_the_sum_of_all_changes() -> None:
    dare.offer()
    base, models = torch.tensor([1.0, -2.0, 0.5]), [torch.tensor([1.5, -2.1, 0.5]), torch.tensor([0.0, -1.0, 0.8])]
    torch.manual_seed(1)
    asked = {"weight": [1.0, 0.5], "density": [0.3, 0.8]}
    # Many draws at once: a tensor of many equal rows.
    rows = [tensor.expand(20_000, 3) for tensor in (base, *models)]
    (drawn,) = get("dare_linear_by_density")([group(rows[0], rows[1:])], parameters=asked)
    wanted = base + (models[0] - base) + 0.5 * (models[1] - base)
    assert torch.allclose(drawn.mean(dim=0), wanted, atol=0.04)


@pytest.mark.parametrize("normalize", [True, False])
def test_dare_ties_elects_signs_among_what_is_kept(normalize: bool) -> None:
    dare.offer()
    lot = torch.Generator().manual_seed(3)
    base, *models = (torch.randn(6, 50, generator=lot) for _ in range(4))
    given, densities = [1.0, 2.0, 0.5], [0.3, 0.5, 0.9]
    asked = {"weight": given, "density": densities, "normalize": normalize, "lambda": 0.7}
    torch.manual_seed(7)
    (found,) = get("dare_ties_by_density")([group(base, models)], parameters=asked)
    torch.manual_seed(7)
    kept = [
        (model - base) * torch.bernoulli(torch.full_like(base, density)) / density
        for model, density in zip(models, densities, strict=True)
    ]
    assert torch.allclose(found, base + 0.7 * ties(kept, given, [1.0] * 3, normalize), atol=1e-5)


def test_dare_can_be_scaled_as_mergekit_does_it(base: Model, three: list[Model], merge: Merge) -> None:
    for rescale in ("norm", "none"):
        found = merge(DareTies(densities=0.5, rescale=rescale), three[:1], base).weights
        for name, tensor in weights(base).items():
            (change,) = changes(three[:1], base, name)
            there = (found[name] - tensor).abs() > 1e-9
            factor = float(change.abs().sum() / change[there].abs().sum()) if rescale == "norm" else 1.0
            assert torch.allclose(found[name], tensor + there * change * factor, atol=1e-5), name
