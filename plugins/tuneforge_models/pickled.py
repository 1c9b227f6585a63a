"""A model whose weights are pickles that a person has named: opened as plain tensors, written as safetensors.

A pickle can run code when it is opened. torch reads them here with `weights_only`, which refuses everything but tensors
and plain values; to name them is still asked for, since that too is code that reads what strangers wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneforge import Field, Finding, StepError

from . import folders

NEEDS = ("safetensors>=0.4", "torch>=2.6")
"""What opening them needs."""

PICKLES = Field(
    (),
    description="Weights that are pickles and may be opened all the same, by name: [pytorch_model.bin]. Only tensors "
    "are read of them; others are refused.",
    also=("allow_pickle", "use_safetensors"),
)
"""The option that names them."""


@dataclass(frozen=True)
class Pickled:
    """The layout of such a folder: `named` are its pickles."""

    named: Sequence[str]
    SETTINGS = folders.SETTINGS
    CONFIG = folders.CONFIG

    def weights(self, folder: Path) -> list[str]:
        """The files of weights."""
        return list(self.named)

    def foreign(self, folder: Path) -> Iterator[Finding]:
        """Says so when the model needs code out of its own folder."""
        return folders.foreign(folder)

    def lacking(self, names: Collection[str], what: str) -> Iterator[Finding]:
        """What a repository with files of these names misses; `what` is how it is called in the message."""
        missing = [name for name in self.named if name not in names]
        if "model.safetensors" in names or folders.INDEX in names:
            yield Finding(
                f"{what} has its weights as safetensors, and pickles are named", "Take pickles: out.", field="pickles"
            )
        elif missing:
            yield Finding(f"{what} has no {', '.join(missing)}", "See which files it has.", field="pickles")
        yield from folders.lacking({*names, "model.safetensors"}, what)

    def problems(self, folder: Path) -> list[Finding]:
        """Why a folder cannot be used; nothing when it can."""
        names = [file.name for file in folder.iterdir()]
        return list(self.lacking(names, str(folder))) or list(folders.foreign(folder))


def take_over(
    folder: Path, names: Sequence[str], out: Path, bring: Callable[[Path, Path], object], template: Path | None
) -> None:
    """Brings everything that makes the model into `out`, its weights as safetensors."""
    for finding in Pickled(names).problems(folder):
        raise StepError(finding.problem, finding.fix)
    _convert(folder, names, out / "model.safetensors")
    folders.bring_settings(folder, out, bring, template)


def _convert(folder: Path, names: Sequence[str], target: Path) -> None:
    """Writes the tensors of pickles as one safetensors file. Raises StepError for one that holds anything else."""
    import pickle

    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        try:
            found = torch.load(folder / name, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise StepError(f"{name} is refused: {said}", "Take a model that is there as safetensors.") from error
        if not isinstance(found, dict):
            raise StepError(f"{name} is refused: it holds no tensors by name", "Name the pickles of the weights alone.")
        strange = [key for key, value in found.items() if not isinstance(value, torch.Tensor)]
        if strange:
            raise StepError(f"{name} holds {strange[0]}, which is no tensor", "Name the pickles of the weights alone.")
        # Cloned, as safetensors refuses tensors that share memory.
        tensors |= {key: value.detach().clone().contiguous() for key, value in found.items()}
    save_file(tensors, target, metadata={"format": "pt"})
