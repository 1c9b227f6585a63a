"""Strategies as the Trainer's settings, written for the person; and the proof, inside the run, that they are active."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import PartialState
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tuneforge import Adapter, Model, Step, StepError
from tuneforge.kit.models import device, full_model

from .strategies import Ddp, DeepSpeed, Fsdp


def strategy_arguments(step: Step, model: Model | Adapter) -> dict[str, Any]:
    """The Trainer's settings for how the training of `model` is spread, told in the log."""
    if step.launch is None:
        return {}
    strategy = step.launch.strategy
    step.log(f"on {step.launch}")
    match strategy:
        case Fsdp():
            wrap = repeated_blocks(_skeleton(model)) if strategy.wrap == "auto" else list(strategy.wrap)
            settings: dict[str, Any] = {
                "version": 2,
                "reshard_after_forward": strategy.shard == "full",
                "cpu_offload": strategy.offload,
                "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "transformer_layer_cls_to_wrap": wrap,
                "cpu_ram_efficient_loading": True,
                "state_dict_type": "SHARDED_STATE_DICT",
            }
            step.log(f"fsdp: {json.dumps(settings)}")
            return {"fsdp": True, "fsdp_config": settings}
        case DeepSpeed():
            settings = deepspeed_settings(strategy)
            step.log(f"deepspeed: {json.dumps(settings)}")
            return {"deepspeed": settings} | (_deepspeed_on_cpu() if device().type == "cpu" else {})
    return {"ddp_find_unused_parameters": False, "ddp_broadcast_buffers": False}


def deepspeed_settings(strategy: DeepSpeed) -> dict[str, Any]:
    """DeepSpeed's configuration; what the Trainer knows, batch sizes and types, it fills in for `auto`."""
    zero: dict[str, Any] = {"stage": strategy.zero, "contiguous_gradients": True, "overlap_comm": True}
    if strategy.offload == "cpu":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        if strategy.zero == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if strategy.zero == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        # PyTorch's AdamW, as with every other strategy; DeepSpeed would otherwise insist on one of its own.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def _deepspeed_on_cpu() -> dict[str, Any]:
    """What DeepSpeed must be told where there is no GPU, and the Trainer, which with `use_cpu` would leave it out."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    # It would compile a kernel of its own to communicate by, on every machine and for minutes; gloo will do.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    PartialState(backend="gloo")  # the Trainer would name no backend, and accelerate then work in one process
    return {"use_cpu": False, "accelerator_config": {"use_configured_state": True}}


def repeated_blocks(model: nn.Module) -> list[str]:
    """Names of the classes of which the model is a pile: the members of its outermost lists of like modules."""
    return sorted({type(block).__name__ for pile in _piles(model) for block in pile})


def _skeleton(model: Model | Adapter) -> nn.Module:
    """The model's modules, without weights."""
    with torch.device("meta"):
        skeleton: nn.Module = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(full_model(model).path))
    return skeleton


def _piles(module: nn.Module) -> Iterator[nn.ModuleList]:
    for child in module.children():
        alike = isinstance(child, nn.ModuleList) and len({type(block) for block in child}) == 1
        if alike and next(child[0].parameters(), None) is not None:  # type: ignore[index]
            yield child  # type: ignore[misc]
        else:
            yield from _piles(child)


class Assured(TrainerCallback):
    """Fails the step if it is not spread as was asked: launchers fall back to less without a word."""

    def __init__(self, trainer: Any, step: Step) -> None:
        self._trainer, self._step = trainer, step
        self._compared = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assure(self._trainer.model_wrapped, self._step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        launch = self._step.launch
        if launch is None or self._compared or not isinstance(launch.strategy, Ddp):
            return
        self._compared = True
        gradients = [weight.grad for weight in self._trainer.model.parameters() if weight.grad is not None]
        assure_equal(gradients, self._step)


def assure(model: Any, step: Step) -> None:
    """Raises StepError unless `model`, as it will be trained, is spread as the step was launched."""
    launch = step.launch
    if launch is None:
        return
    world = dist.get_world_size() if dist.is_initialized() else 1
    if world != launch.world_size:
        raise _lie(step, f"{world} process{'es work' if world > 1 else ' works'} together")
    match launch.strategy:
        case Ddp():
            if not isinstance(model, DistributedDataParallel):
                raise _lie(step, f"the model is no DistributedDataParallel but a {type(model).__name__}")
        case Fsdp():
            flaw = unsharded(model, world, launch.strategy)
            if flaw:
                raise _lie(step, flaw)
        case DeepSpeed():
            flaw = _without_zero(model, launch.strategy, world)
            if flaw:
                raise _lie(step, flaw)


def assure_equal(gradients: Sequence[torch.Tensor], step: Step) -> None:
    """Raises StepError unless every rank has the same gradients, as averaging leaves them. Every rank takes part."""
    # In double precision, and of two kinds, so that differences do not cancel out.
    mine = [(float(gradient.double().sum()), float(gradient.double().square().sum())) for gradient in gradients]
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, mine)
    differing = [rank for rank, theirs in enumerate(told) if theirs != told[0]]
    if not mine or differing:
        found = f"gradients of rank {differing[0]} differ from those of rank 0" if mine else "there are no gradients"
        raise _lie(step, found)


def unsharded(model: Any, world_size: int, strategy: Fsdp) -> str:
    """Why a model is not sharded as asked by FSDP2; empty if it is."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    if not isinstance(model, FSDPModule):
        return f"fully_shard was not applied to the model, a {type(model).__name__}"
    tree: nn.Module = model  # type: ignore[assignment]  # it is both
    names = set(repeated_blocks(tree)) if strategy.wrap == "auto" else set(strategy.wrap)
    # Sharding makes each class a new one that is called FSDP<its name> and derives from it.
    blocks = [module for module in tree.modules() if names & {kind.__name__ for kind in type(module).__mro__}]
    whole = [type(block).__name__ for block in blocks if not isinstance(block, FSDPModule)]
    if not blocks or whole:
        return f"blocks are gathered with the whole model: {', '.join(sorted({*whole} or names))} is not wrapped"
    here = everywhere = 0
    for name, weight in tree.named_parameters():
        if not isinstance(weight, DTensor):
            return f"{name} is whole on every process"
        if strategy.offload and weight.to_local().device.type != "cpu":
            return f"{name} is not offloaded but on {weight.to_local().device}"
        here += weight.to_local().numel()
        everywhere += weight.numel()
    share = here / everywhere
    if share > 1.5 / world_size and world_size > 1:  # small weights do not divide evenly
        return f"this process holds {share:.0%} of the weights"
    kept = [block for block in blocks if _kept_after_forward(block) is (strategy.shard == "full")]
    if kept:
        return f"after the forward pass weights are {'kept' if strategy.shard == 'full' else 'cut up again'}"
    return ""


def _kept_after_forward(block: Any) -> bool:
    group = block._get_fsdp_state()._fsdp_param_group
    return group is not None and group.post_forward_mesh_info is None


def _without_zero(engine: Any, strategy: DeepSpeed, world_size: int) -> str:
    if not hasattr(engine, "zero_optimization_stage"):
        return f"the model is no engine of DeepSpeed but a {type(engine).__name__}"
    stage = int(engine.zero_optimization_stage())
    if stage != strategy.zero:
        return f"ZeRO's stage is {stage}"
    if engine.dp_world_size != world_size:
        return f"ZeRO cuts up among {engine.dp_world_size}"
    if strategy.zero == 3:
        whole = [name for name, weight in engine.module.named_parameters() if not hasattr(weight, "ds_id")]
        if whole:
            return f"{whole[0]} is whole on every process"
    return ""


def _lie(step: Step, found: str) -> StepError:
    return StepError(
        f"{step.launch} was asked for, but {found}",
        "Libraries fall back without a word where they cannot do it: see the step's log, and its launch:.",
    )
