"""A LoRA out of a fine-tuned model, by mergekit's decomposition of what changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mergekit.architecture import WeightInfo
from mergekit.common import ModelPath, ModelReference
from mergekit.graph import Executor, Task
from mergekit.io.tasks import FinalizeModel, SaveTensor, TensorWriterTask
from mergekit.scripts.extract_lora import (
    LoRAModuleSaveTask,
    TaskVectorDecompositionTask,
    plan_lora_module,
    plan_module_to_save,
)
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tuneforge import Model, Step, StepError
from tuneforge.kit.models import save_adapter, tokenizer_folder

from .extract import ExtractLora, apart
from .layout import comparable

_WRITTEN = "adapter_model"

_PREFIX = "base_model.model"
"""What PEFT puts before the names of a model's layers."""


@dataclass
class Changed:
    """What of a model is not as in its base: layers to take apart, to keep whole and to leave as in the base, by name.

    `size` is the squared length of what changed in the first; `heads` are the names of what shares its matrix with an
    embedding that is kept whole.
    """

    apart: dict[str, nn.Module] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    size: float = 0.0
    heads: list[str] = field(default_factory=list)


def extract(options: ExtractLora, model: Model, base: Model, step: Step) -> None:
    """Writes what `model` has learnt since `base` as an adapter into `step.out`, with its base declared.

    Raises StepError if nothing changed, or if something did that no adapter can hold.
    """
    torch.set_num_threads(step.threads)
    for finding in apart(Model.facts(model.path), Model.facts(base.path)):  # of which the plan may have known nothing
        if finding.level == "error":
            raise StepError(finding.problem, finding.fix)
    structure = _structure(base)
    changed = _changed(options, structure, model, base)
    if not changed.apart:
        raise StepError("no linear layer of the model differs from its base", "Name a model that was fine-tuned.")
    weights, ranks, kept = _decompose(options, changed, model, base, step)
    for head in changed.heads:  # PEFT asks for both
        weights[f"{_PREFIX}.{head}.weight"] = weights[f"{_PREFIX}.{_embedding(structure)}.weight"]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=max(ranks.values()),
        lora_alpha=max(ranks.values()),
        # Whole names: a last part alone would put zeros on layers that are as they were.
        target_modules=sorted(ranks),
        modules_to_save=sorted(changed.whole) or None,
        # Else PEFT would make two matrices of one.
        ensure_weight_tying=bool(changed.heads),
    )
    save_adapter(structure, tokenizer_folder(model), step.out, base, given=(config, weights))
    step.sits_on(base)
    share = kept / changed.size
    step.metrics(layers=len(ranks), whole_layers=len(changed.whole), left_layers=len(changed.left), kept=share)
    step.log(f"rank {config.r} on {len(ranks)} layers holds {share:.1%} of what changed in them")
    if changed.left:
        step.log(f"{len(changed.left)} changed layers stay as in the base, {changed.left[0]} among them")


def _structure(base: Model) -> Any:
    """The base's layers, without weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base.path))


def _embedding(structure: Any) -> str:
    found = structure.get_input_embeddings()
    return next(str(name) for name, module in structure.named_modules() if module is found)


def _changed(options: ExtractLora, structure: Any, model: Model, base: Model) -> Changed:
    modules = dict(structure.named_modules())
    embeddings = {structure.get_input_embeddings(), structure.get_output_embeddings()}
    found = Changed()
    for layer, sizes in sorted(_differences(model.path, base.path).items()):
        if not options.takes(layer):
            found.left.append(layer)
            continue
        module = modules.get(layer)
        if module is None or not sizes.keys() <= {"weight", "bias"}:
            raise StepError(
                f"{layer} changed, and is no layer that an adapter can be put on",
                "Leave it as in the base: add it to exclude.",
            )
        if module in embeddings or isinstance(module, nn.Embedding):
            how = options.embeddings
        elif isinstance(module, nn.Linear) and "bias" not in sizes:
            how = "lora"
        elif options.whole:
            how = "whole"
        else:
            how = "lora" if isinstance(module, nn.Linear) and "weight" in sizes else "leave"
        if how == "lora":
            found.apart[layer] = module
            found.size += sizes["weight"]
            found.left += [f"{layer}.bias"] if "bias" in sizes else []
        else:
            (found.whole if how == "whole" else found.left).append(layer)
        if how == "whole" and module in embeddings and structure.config.get_text_config().tie_word_embeddings:
            found.heads = [name for name, other in modules.items() if other in embeddings - {module}]
    return found


def _differences(one: Path, other: Path) -> dict[str, dict[str, float]]:
    """By layer and parameter, the squared length of what differs between two models, where anything does."""
    found: dict[str, dict[str, float]] = {}
    compared = comparable(Model.facts(one)).keys() & comparable(Model.facts(other)).keys()
    there = {name: file for file in sorted(other.glob("*.safetensors")) for name in _names(file)}
    for file in sorted(one.glob("*.safetensors")):
        with safe_open(file, "pt") as ours:
            for name in compared & set(ours.keys()):
                with safe_open(there[name], "pt") as theirs:
                    difference = ours.get_tensor(name).float() - theirs.get_tensor(name).float()
                if bool(difference.any()):
                    layer, _, parameter = name.rpartition(".")
                    found.setdefault(layer, {})[parameter] = float(difference.double().square().sum())
    return found


def _names(file: Path) -> list[str]:
    with safe_open(file, "pt") as tensors:
        return list(tensors.keys())


def _decompose(
    options: ExtractLora, changed: Changed, model: Model, base: Model, step: Step
) -> tuple[dict[str, torch.Tensor], dict[str, int], float]:
    """The adapter's tensors, each layer's rank, and the squared length of what they hold of the change."""
    before, after = (ModelReference(model=ModelPath(path=str(folder.path))) for folder in (base, model))
    writer = TensorWriterTask(
        out_path=str(step.scratch), override_basename=_WRITTEN, max_shard_size=-1, safe_serialization=True
    )
    tasks: list[Task[Any]] = []
    for layer, module in changed.apart.items():
        tasks += plan_lora_module(
            before,
            after,
            # In float32: a difference of two bfloat16 numbers is no bfloat16 number.
            WeightInfo(name=f"{layer}.weight", force_dtype="float32"),
            None,
            writer,
            options.rank,
            transpose=isinstance(module, nn.Embedding),
            sv_epsilon=options.epsilon,
        )
    for layer in changed.whole:
        tasks += plan_module_to_save(after, writer, *_parameters(model.path, layer))
    saves = [task for task in tasks if isinstance(task, (SaveTensor, LoRAModuleSaveTask))]
    tasks.append(FinalizeModel(tensor_save_tasks=tuple(saves), writer_task=writer))
    ranks: dict[str, int] = {}
    kept, done = 0.0, 0
    for task, result in Executor(tasks).run(quiet=True):
        if isinstance(task, TaskVectorDecompositionTask):
            a, b = result
            layer = task.weight_info.name.removesuffix(".weight")
            ranks[layer] = len(a)
            # Both halves carry the roots of the singular values, in orthogonal directions.
            kept += float((a.double().square().sum(1) * b.double().square().sum(0)).sum())
            done += 1
            step.progress(done, len(changed.apart))
    file = step.scratch / f"{_WRITTEN}.safetensors"
    weights = load_file(file)
    file.unlink()
    for layer in [layer for layer, rank in ranks.items() if rank == 0]:  # nothing above epsilon
        del ranks[layer]
        weights = {name: tensor for name, tensor in weights.items() if f".{layer}.lora_" not in name}
    if not ranks:
        raise StepError("no singular value is above epsilon", "Set epsilon lower.")
    most = max(ranks.values())
    return {name: _widened(name, tensor, most) for name, tensor in weights.items()}, ranks, kept


def _widened(name: str, tensor: torch.Tensor, rank: int) -> torch.Tensor:
    """A matrix of a LoRA with zeros up to a rank: readers other than PEFT know of one rank for all layers."""
    if ".lora_" not in name:
        return tensor
    first = ".lora_A." in name or name.endswith(".lora_embedding_A")
    missing = rank - tensor.shape[0 if first else 1]
    return nn.functional.pad(tensor, (0, 0, 0, missing) if first else (0, missing))


def _parameters(folder: Path, layer: str) -> Iterator[WeightInfo | None]:
    """The weight and, if there is one, the bias of a layer."""
    names = {name for file in folder.glob("*.safetensors") for name in _names(file)}
    for parameter in ("weight", "bias"):
        name = f"{layer}.{parameter}"
        yield WeightInfo(name=name) if name in names else None
