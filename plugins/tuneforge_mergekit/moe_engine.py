"""A mixture of experts, written by mergekit and brought into the layout that others read."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from mergekit.common import ModelReference
from mergekit.io.tasks import LoaderCache
from mergekit.moe.config import Expert, MoEMergeConfig
from mergekit.moe.mixtral import MixtralMoE
from mergekit.moe.qwen3 import Qwen3MoE
from mergekit.moe.router import get_gate_params
from mergekit.options import MergeOptions
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer, set_seed
from transformers.utils.logging import disable_progress_bar

from tuneforge import Adapter, Model, Step, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.folders import write_json
from tuneforge.kit.models import save_tokenizer

from .base import bytes_of
from .engine import offline
from .inputs import dtype_of, folders, references
from .mixtures import MIXTURES, Mixture, apart
from .moe import Moe
from .sanity import verify

_WRITERS = {"mixtral": MixtralMoE, "qwen3_moe": Qwen3MoE}

_ALIKE = 5.0
"""The condition number of a layer's gates above which some tell hardly more than others: mergekit's own bound."""


def mix(options: Moe, models: list[Model | Adapter], base: Model | None, step: Step) -> None:
    """Writes the mixture of the models into `step.out`; StepError if it is not sound."""
    torch.set_num_threads(step.threads)
    disable_progress_bar()
    with offline():
        found = folders(models, base, step)
        root = found[-1] if base is not None else found[0]
        mixture = MIXTURES[read_json(root / "config.json")["model_type"]]
        _write(options, found, base is not None, mixture, step)
        _take_apart(step.out, mixture)
        # mergekit writes none; and transformers has one of its own for a Mistral that names none.
        window = getattr(AutoConfig.from_pretrained(root), "sliding_window", None)
        write_json(step.out / "config.json", read_json(step.out / "config.json") | {"sliding_window": window})
        if (root / "generation_config.json").exists():
            write_json(step.out / "generation_config.json", read_json(root / "generation_config.json"))
        save_tokenizer(root, step.out)
        gc.collect()
        step.log("loading the mixture, to see that it is sound")
        step.metrics(**verify(step.out, root))


def _write(options: Moe, found: list[Path], based: bool, mixture: Mixture, step: Step) -> None:
    """Has mergekit write the mixture's config.json and weights."""
    inputs = references(found, step)
    experts, base = (inputs[:-1] if based else inputs), inputs[-1 if based else 0]
    dtype = options.dtype or dtype_of(Path(base.model.path))
    config = MoEMergeConfig(
        base_model=base,
        experts=[_expert(options, number, model) for number, model in enumerate(experts)],
        gate_mode=options.gate,
        dtype=dtype,
        experts_per_token=options.experts_per_token,
    )
    settings = MergeOptions(device="cpu", out_shard_size=bytes_of(options.shard_size))
    LoaderCache.loaders.clear()  # of another merge in this process
    set_seed(step.seed)
    step.progress(0, 2)
    gates = _gates(options, config, base)
    step.progress(1, 2)
    _tell_alike(gates, step)
    _WRITERS[mixture.model_type]().write_model(str(step.out), config, settings, list(gates))
    step.progress(2, 2)
    LoaderCache.loaders.clear()
    shutil.rmtree(step.scratch / "inputs")


def _expert(options: Moe, number: int, model: ModelReference) -> Expert:
    of_own = {} if options.drawn else {"positive_prompts": options.prompts[number]}
    if options.against and not options.drawn:
        of_own["negative_prompts"] = options.against[number]
    return Expert(source_model=model, noise_scale=options.noise or None, **of_own)


def _gates(options: Moe, config: MoEMergeConfig, base: ModelReference) -> torch.Tensor:
    """What the router compares hidden states with: (layers, experts, width)."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base.model.path)
    # The end of each prompt is in one place then; what stands before it is masked.
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.bos_token or tokenizer.eos_token
    gates: torch.Tensor = get_gate_params(base, tokenizer, config.experts, mode=options.gate, device="cpu")
    if not bool(gates.isfinite().all()):
        raise StepError("the gates hold numbers that are not finite", "Write other prompts, or choose another gate.")
    return gates


def _tell_alike(gates: torch.Tensor, step: Step) -> None:
    alike = sum(bool(torch.linalg.cond(layer.float()) > _ALIKE) for layer in gates)
    step.metrics(layers_with_like_gates=alike)
    if alike:
        step.warn(
            f"in {alike} of {len(gates)} layers gates of experts are nearly alike: some will compute little",
            "Write prompts that differ more, or what each model is not to take (against).",
        )


def _take_apart(folder: Path, mixture: Mixture) -> None:
    """Writes each expert's matrices by themselves, as transformers does, where mergekit has all experts' in one."""
    shards = sorted(folder.glob("*.safetensors"))
    places: dict[str, str] = {}
    size = 0
    for shard in shards:
        tensors: dict[str, torch.Tensor] = {}
        with safe_open(shard, "pt") as held:
            for name in held.keys():  # noqa: SIM118 - no mapping
                tensors |= _parts(held.get_tensor(name), apart(name, mixture))
        shard.unlink()
        save_file(tensors, shard, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, shard.name)
        size += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _parts(tensor: torch.Tensor, names: list[str]) -> dict[str, torch.Tensor]:
    if "{}" not in names[0]:
        return {names[0]: tensor}
    # (experts, rows, columns); the rows are those of one matrix after those of the other.
    return {
        name.format(expert): matrix.contiguous()
        for expert, both in enumerate(tensor)
        for name, matrix in zip(names, both.chunk(len(names)), strict=True)
    }
