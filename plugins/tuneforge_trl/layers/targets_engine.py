"""The layers of a loaded model that get an adapter, under the names by which PEFT finds them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tuneforge import StepError

from .targets import linear_layers


def target_modules(model: PreTrainedModel, targets: str | Sequence[str], warn: Callable[[str], object]) -> list[str]:
    """What to give PEFT as `target_modules`, sorted: the layers that `auto` stands for, or those that are named.

    `warn` is told of layers that `auto` should stand for and PEFT cannot have.

    PEFT's own "all-linear" is not that on every model. Of mixtures it takes the router and the experts, some at twice
    the rank, and of DeepSeek's drops the dense layers; of OPT it takes the projections outside the blocks; Mamba it
    refuses.
    """
    every = [name for name, _ in model.named_modules()]
    if not isinstance(targets, str):
        mistaken = [name for name in targets if _taken_for_experts(name, model)]
        if mistaken:
            raise StepError(
                f"PEFT takes {', '.join(mistaken)} for matrices of the experts, which get no adapter here",
                "Leave them out of target_modules, or set auto.",
            )
        named = [name for name in every if any(f".{name}".endswith(f".{target}") for target in targets)]
        # The layers of a vision tower are often called as those of the language model are.
        ours = [name for name in named if name.startswith(_decoder(model))]
        return sorted(targets) if not ours or ours == named else endings(ours, every)
    found = endings(text_layers(model), every)
    mistaken = [name for name in found if _taken_for_experts(name, model)]
    if mistaken:
        warn(f"{', '.join(mistaken)} get no adapter: PEFT takes these names for matrices of the experts")
    kept = sorted(set(found) - set(mistaken))
    if not kept:
        raise StepError(
            "no linear layer was found inside the model's blocks", "Name the layers: adapter.target_modules."
        )
    return kept


def text_layers(model: PreTrainedModel) -> list[str]:
    """The full names of the linear layers that `auto` stands for, in the order of the model's modules."""
    inside = _decoder(model)
    linear = {name for name, module in model.named_modules() if _is_linear(module) and name.startswith(inside)}
    weights: list[tuple[str, Any]] = [*model.named_parameters(), *model.named_buffers()]
    layers = set(linear_layers({name: tuple(weight.shape) for name, weight in weights}))
    return [name for name, _ in model.named_modules() if name in linear & layers]


def endings(wanted: Sequence[str], every: Iterable[str]) -> list[str]:
    """The shortest endings of names that stand for the `wanted` modules and for no other of `every` module; sorted."""
    others = {ending for name in set(every) - set(wanted) for ending in _endings(name)}
    return sorted({next(ending for ending in _endings(name) if ending not in others) for name in wanted})


def _endings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]


def _decoder(model: PreTrainedModel) -> str:
    """What the names of all modules of the language model begin with."""
    decoder = model.get_decoder()
    return next((f"{name}." for name, module in model.named_modules() if module is decoder and name), "")


def _is_linear(module: nn.Module) -> bool:
    # The layers of GPTQ and AWQ are called linear, and have nothing in common with torch's.
    return isinstance(module, (nn.Linear, Conv1D)) or (
        "Linear" in type(module).__name__ and hasattr(module, "in_features")
    )


def _taken_for_experts(name: str, model: PreTrainedModel) -> bool:
    """Whether PEFT rewrites a target into parameters of experts, as it does for adapters from transformers 4."""
    config = LoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(config, model, None)
    except ValueError:  # of two matrices that transformers 5 keeps as one, only this one was named
        return True
    return name not in (config.target_modules or ())
