"""DARE as its paper has it. mergekit scales what is kept so that its absolute sum stays, and not by 1/density."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from mergekit.merge_methods import GeneralizedTaskArithmeticMerge, TensorGroup, get, register, registered_methods
from mergekit.merge_methods.base import PerInputValues
from mergekit.sparsify import bernoulli

from .pruned import BY_DENSITY, DareLinear, DareTies


class ByDensity(GeneralizedTaskArithmeticMerge):
    """A sum of task vectors whose weights are kept by lot, each with the chance `density`, and divided by it.

    So the expectation of a weight is what it was (arXiv:2311.03099). Signs and sums are mergekit's.
    """

    def merge_group(self, group: TensorGroup, /, **parameters: Any) -> torch.Tensor:
        base = group.base.tensor
        kept = [_kept(entry, base, parameters["density"]) for entry in group.entries]
        # A sum of changes is what the merge makes of them where the base is zero and all of them is kept.
        whole = PerInputValues([(entry.id, 1.0) for entry in group.non_base])
        only = replace(group, entries=tuple(kept))
        total = super().merge_group(only, **parameters | {"density": whole})
        return (base + total).to(base.dtype)


def _kept(entry: Any, base: torch.Tensor, densities: PerInputValues[float]) -> Any:
    if entry.is_base:
        return replace(entry, tensor=torch.zeros_like(base))
    density = densities[entry.id]
    change = entry.tensor - base
    return replace(entry, tensor=bernoulli(change, density) / density if density > 0 else torch.zeros_like(change))


def offer() -> None:
    """Has mergekit know these merges by name."""
    known = {method.spec.name for method in registered_methods()}
    for kind in (DareLinear, DareTies):
        name = f"{kind.name}{BY_DENSITY}"
        if name not in known:
            own = get(kind.name)
            register(ByDensity(**{each.name: getattr(own, each.name) for each in fields(own)} | {"method_name": name}))
