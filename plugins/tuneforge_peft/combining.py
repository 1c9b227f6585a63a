"""Combining adapters with PEFT, on the bare structure of their model: its weights are not read."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoConfig, AutoModelForCausalLM

from tuneforge import Adapter, Artifact, Step, StepError
from tuneforge.kit.models import full_model, save_adapter, tokenizer_folder

from .adapters import MergeAdapters

_RESULT = "default"
"""What PEFT calls the combined adapter in memory, which is what an adapter is written under."""


def combine(options: MergeAdapters, adapters: list[Adapter], step: Step) -> None:
    """Writes the combination of the adapters as an adapter into `step.out`.

    Raises StepError if they sit on different models, or if the result would not hold all that they change.
    """
    torch.set_num_threads(step.threads)
    base = _base(adapters)
    names = [f"given{place}" for place in range(len(adapters))]
    model = _skeleton(base)
    wrapped: Any = PeftModel.from_pretrained(model, adapters[0].path, adapter_name=names[0])
    for name, adapter in zip(names[1:], adapters[1:], strict=True):
        wrapped.load_adapter(adapter.path, adapter_name=name)
    how = _how(options, wrapped, names)
    torch.manual_seed(step.seed)  # dare draws what it leaves out
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The density")  # of 1 leaves nothing out, which may be wanted
        wrapped.add_weighted_adapter(names, options.shares(len(adapters)), _RESULT, **how)
    layers = _layers(wrapped, names)
    lost = layers - _layers(wrapped, [_RESULT])
    if lost:
        raise StepError(
            f"PEFT leaves {len(lost)} layers out that an adapter changes, {min(lost)} among them",
            "Train the adapters on the same layers.",
        )
    settings = wrapped.peft_config[_RESULT]
    if settings.peft_type == "LORA":
        # Their scaling is in the weights now, and PEFT takes the option over from the first.
        settings.use_rslora = False
        settings.auto_mapping = next((noted for name in names if (noted := _noted(wrapped, name))), None)
    weights = get_peft_model_state_dict(wrapped, adapter_name=_RESULT, save_embedding_layers=False)
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise StepError("the combined adapter holds numbers that are not finite", "Take smaller weights.")
    save_adapter(wrapped, tokenizer_folder(adapters[0]), step.out, base, given=(settings, weights))
    step.sits_on(base)
    _show_it_loads(step, base, weights)
    step.metrics(layers=len(layers), parameters=sum(tensor.numel() for tensor in weights.values()))
    rank = f" of rank {settings.r}" if settings.peft_type == "LORA" else ""
    step.log(f"{len(adapters)} adapters combined by {options.combination}: one{rank} on {len(layers)} layers")


def _base(adapters: list[Adapter]) -> Artifact:
    bases = [full_model(adapter) for adapter in adapters]
    for place, base in enumerate(bases, 1):
        if base.digest != bases[0].digest:
            raise StepError(
                f"adapter {place} of adapters was trained on another model than the first: {base.digest[:12]}, not "
                f"{bases[0].digest[:12]}",
                "Combine adapters of one model; of different ones, merge each (merge: adapter), then the models.",
            )
    return bases[0]


def _skeleton(base: Artifact) -> Any:
    """The model without its weights: memory is asked for, and none is used as long as nothing is written into it."""
    config = AutoConfig.from_pretrained(base.path)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.to_empty(device="cpu")


def _how(options: MergeAdapters, model: Any, names: list[str]) -> dict[str, Any]:
    """The combination in PEFT's terms."""
    if model.peft_config[names[0]].peft_type != "LORA":
        return {}
    how: dict[str, Any] = {"combination_type": options.combination}
    if options.trimmed:
        how["density"] = options.density
    if options.voted:
        how["majority_sign_method"] = options.sign
    if options.decomposed:
        how |= {"svd_rank": options.rank, "svd_full_matrices": False}
        _check_rank(options.rank, model, names)
    return how


def _check_rank(rank: int | None, model: Any, names: list[str]) -> None:
    """StepError if a layer is too small for the rank, which PEFT would write as it is told."""
    if rank is None:
        rank = max(max([model.peft_config[name].r, *model.peft_config[name].rank_pattern.values()]) for name in names)
    sides = [min(layer.in_features, layer.out_features) for layer in _modules(model, names)]
    if rank > min(sides):
        raise StepError(
            f"rank {rank} is more than the smallest changed weight has, {min(sides)}", f"Set rank to {min(sides)}."
        )


def _modules(model: Any, names: list[str]) -> list[Any]:
    return [module for _, module in _tuned(model, names)]


def _layers(model: Any, names: list[str]) -> set[str]:
    return {name for name, _ in _tuned(model, names)}


def _tuned(model: Any, names: list[str]) -> list[tuple[str, Any]]:
    """The layers with weights of any of these adapters."""
    return [
        (place, module)
        for place, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
        and any(name in getattr(module, held) for held in module.adapter_layer_names for name in names)
    ]


def _noted(model: Any, name: str) -> Any:
    """What an adapter's configuration tells of a base that was rounded while it was trained."""
    return model.peft_config[name].auto_mapping


def _show_it_loads(step: Step, base: Artifact, weights: dict[str, torch.Tensor]) -> None:
    """Loads what was written, as anyone will; StepError if that is not what was combined."""
    loaded: Any = PeftModel.from_pretrained(_skeleton(base), step.out)
    found = get_peft_model_state_dict(loaded, save_embedding_layers=False)
    if found.keys() != weights.keys() or not all(torch.equal(found[name], weights[name]) for name in weights):
        raise StepError("the combined adapter, loaded again, is not what was combined", "Report this, with the recipe.")
