"""What merging costs beside mergekit's own command: a slerp of two models and a ties of three, of 471M parameters.

Ours is all of `tuneforge run`: the plan, the merge, loading the result to see that it is sound, and putting it into the
registry with its digest. Both end when the result is on the disk, ours being so by itself.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.large import large_model, layers
from benchmarks.measure import BIN, Used, least, run
from tuneforge.preflight import threads_for

_ROUNDS = 2
_NAMES = ("one", "two", "three")

_MERGES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "slerp of two": (
        {"merge": "slerp", "models": ["one", "two"], "with": {"t": 0.5}},
        {"merge_method": "slerp", "base_model": "one", "models": ["one", "two"], "parameters": {"t": 0.5}},
    ),
    "ties of three": (
        {"merge": "ties", "models": ["two", "three"], "base": "one", "with": {"densities": 0.2}},
        {
            "merge_method": "ties",
            "base_model": "one",
            "models": ["two", "three"],
            "parameters": {"weight": 1.0, "density": 0.2, "normalize": True},
        },
    ),
}
"""Each in our words and in mergekit's."""


def main() -> None:
    """Both commands in turns, each merge several times; what is told is the least of each."""
    settings = {"OMP_NUM_THREADS": str(threads_for(None)), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        parameters = _make_models(folder)
        print(f"\nmerging models of {parameters / 1e6:.0f}M parameters in bfloat16, least of {_ROUNDS} rounds")
        print(f"{'':34} {'wall':>8} {'cpu':>8} {'memory':>9} {'wall on top':>12} {'memory on top':>14}")
        for title, (ours, theirs) in _MERGES.items():
            commands = _commands(folder, title.partition(" ")[0], ours, theirs)
            taken: dict[str, list[Used]] = {name: [] for name in commands}
            for _ in range(_ROUNDS):
                for name, command in commands.items():
                    taken[name].append(run(command, folder, settings))
            _report(title, {name: least(rounds) for name, rounds in taken.items()})


def _make_models(folder: Path) -> int:
    """Random models, the later two not far from the first; gives how many parameters each has."""
    import torch
    from safetensors.torch import load_file, save_file

    parameters = large_model(folder / _NAMES[0], layers())
    lot = torch.Generator().manual_seed(2)
    for name in _NAMES[1:]:
        fresh_weights = {
            key: tensor + torch.randn(tensor.shape, generator=lot, dtype=tensor.dtype) * 0.01
            for key, tensor in load_file(folder / _NAMES[0] / "model.safetensors").items()
        }
        (folder / name).mkdir()
        for file in (folder / _NAMES[0]).iterdir():
            if file.suffix != ".safetensors":
                (folder / name / file.name).write_bytes(file.read_bytes())
        save_file(fresh_weights, folder / name / "model.safetensors", {"format": "pt"})
    return parameters


def _commands(folder: Path, name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Sequence[str]]:
    """The two commands; the models are in the registry before, as they would be after a training."""
    steps: dict[str, Any] = {each: {"load_model": "path", "with": {"path": str(folder / each)}} for each in _NAMES}
    recipe, config = folder / f"{name}.recipe.yaml", folder / f"{name}.yaml"
    recipe.write_text(yaml.safe_dump({"name": name, "steps": steps | {"merged": ours}}), encoding="utf-8")
    tuneforge = [str(BIN / "tuneforge"), "--home", str(folder / "home"), "run", str(recipe)]
    for each in _NAMES:
        subprocess.run([*tuneforge, "--until", each], check=True, capture_output=True)
    models = [{"model": str(folder / model)} for model in theirs["models"]]
    written = theirs | {"base_model": str(folder / theirs["base_model"]), "models": models}
    config.write_text(yaml.safe_dump(written), encoding="utf-8")
    out = folder / "merged"
    merge = [str(BIN / "mergekit-yaml"), str(config), str(out)]
    merge += ["--num-threads", str(threads_for(None)), "--no-write-model-card"]
    return {
        "mergekit": ["sh", "-c", f"{shlex.join(merge)} && sync {shlex.quote(str(out))}/*"],
        "tuneforge": [*tuneforge, "--again", "merged", "--json"],
    }


def _report(title: str, taken: Mapping[str, Used]) -> None:
    theirs = taken["mergekit"]
    for name, one in taken.items():
        on_top = "" if one is theirs else f" {one.wall / theirs.wall - 1:12.1%} {one.memory / theirs.memory - 1:14.1%}"
        print(f"  {f'{title}: {name}':32} {one.wall:8.2f} {one.cpu:8.2f} {one.memory / 1e9:7.2f}GB{on_top}", flush=True)
