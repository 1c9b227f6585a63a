"""The heavy part: imported when the step runs, never when the plugin is registered."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def average(folders: Sequence[Path], weights: Sequence[float], out: Path) -> None:
    """Writes the model whose every tensor is the weighted mean of the folders' tensors, in the first one's dtype."""
    total = sum(weights)
    for file in folders[0].iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, out / file.name)
            continue
        with safe_open(file, "pt") as first:
            names, metadata = list(first.keys()), first.metadata()
        mixed = {}
        for name in names:
            tensors = [_tensor(folder, file.name, name) for folder in folders]
            mean = sum(weight / total * tensor.float() for weight, tensor in zip(weights, tensors, strict=True))
            mixed[name] = torch.as_tensor(mean).to(tensors[0].dtype)
        save_file(mixed, out / file.name, metadata)


def _tensor(folder: Path, file: str, name: str) -> torch.Tensor:
    with safe_open(folder / file, "pt") as tensors:
        return tensors.get_tensor(name)
