"""How far a training is, in a file that is there as a whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tuneforge import Step
from tuneforge.disk import persist

_WEIGHTS, _STATE, _TOLD = "weights.safetensors", "state.pt", "told.json"


def save(trainer: Any, done: int, told: Mapping[str, Any], step: Step) -> None:
    """Keeps the weights that change, and the optimizer, after `done` steps; the one before makes room then."""
    folder = step.scratch / "checkpoints"
    beside = folder / "new"
    shutil.rmtree(beside, ignore_errors=True)  # its writer was killed
    beside.mkdir(parents=True)
    save_file({name: weight.detach().contiguous() for name, weight in _trained(trainer).items()}, beside / _WEIGHTS)
    state = {"optimizer": trainer.optimizer.state_dict(), "schedule": trainer.lr_scheduler.state_dict()}
    torch.save(state, beside / _STATE)
    (beside / _TOLD).write_text(json.dumps(told), encoding="utf-8")
    persist(beside)
    made = folder / f"step-{done}"
    beside.rename(made)
    persist(folder)
    for old in folder.glob("step-*"):
        if old != made:
            shutil.rmtree(old, ignore_errors=True)


def find(step: Step) -> tuple[int, Path] | None:
    """The newest checkpoint, and after how many steps it was written."""
    found = [(int(path.name.partition("-")[2]), path) for path in (step.scratch / "checkpoints").glob("step-*")]
    return max(found, default=None)


def told(checkpoint: Path) -> dict[str, Any]:
    """What `save` was told beside the weights."""
    found: dict[str, Any] = json.loads((checkpoint / _TOLD).read_text(encoding="utf-8"))
    return found


def restore(trainer: Any, checkpoint: Path) -> None:
    """Puts what a checkpoint keeps in the place of what the trainer has."""
    stored = load_file(checkpoint / _WEIGHTS)
    for name, weight in _trained(trainer).items():
        weight.data.copy_(stored[name])
    state = torch.load(checkpoint / _STATE, map_location="cpu", weights_only=True)
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.lr_scheduler.load_state_dict(state["schedule"])


def _trained(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
