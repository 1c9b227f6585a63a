"""Merging whole models by mergekit: each of its ways as a method of the merge stage."""

from tuneforge import Merge, hookimpl

from .averages import Karcher, Linear, ModelStock
from .extract import ExtractLora
from .fusion import ArceeFusion
from .layers import Passthrough
from .moe import Moe
from .pruned import Breadcrumbs, DareLinear, DareTies, Della, Ties
from .spheres import NuSlerp, Slerp
from .task_vectors import Sce, TaskArithmetic


@hookimpl
def register_merge() -> list[type[Merge]]:
    return [
        ArceeFusion,
        Breadcrumbs,
        DareLinear,
        DareTies,
        Della,
        ExtractLora,
        Karcher,
        Linear,
        ModelStock,
        Moe,
        NuSlerp,
        Passthrough,
        Sce,
        Slerp,
        TaskArithmetic,
        Ties,
    ]
