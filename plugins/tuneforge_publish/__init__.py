"""Publishing: artifacts brought to where others use them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuneforge import Finding, Publish, hookimpl

from .folder import Folder
from .hub import Hub
from .judged import unknown
from .llama_cpp import LlamaCpp
from .ollama import Ollama
from .tgi import Tgi
from .to_folder import ToFolder
from .vllm import Vllm

if TYPE_CHECKING:
    from tuneforge.plan import PlannedStep

__all__ = ["Folder", "Hub", "LlamaCpp", "Ollama", "Tgi", "Vllm"]


@hookimpl
def register_publish() -> list[type[Publish]]:
    return [Folder, Hub, LlamaCpp, Ollama, Tgi, Vllm]


@hookimpl
def extend_plan(steps: Sequence[PlannedStep]) -> list[Finding]:
    """Two releases cannot share a folder, nor can one lie inside the other, nor can they share a branch: each would be
    in the other's way. And what is named under `despite` must be there."""
    return [*unknown(steps), *_folders(steps), *_branches(steps)]


def _folders(steps: Sequence[PlannedStep]) -> Iterator[Finding]:
    owners: dict[Path, str] = {}
    for step in steps:
        if isinstance(step.method, ToFolder):
            to = step.method.to.resolve()
            for folder, owner in owners.items():
                if to == folder:
                    problem = f"{step.name} and {owner} release to one folder, {step.method.to}"
                elif to.is_relative_to(folder) or folder.is_relative_to(to):
                    problem = f"{step.name} and {owner} release one inside the other, {to} and {folder}"
                else:
                    continue
                yield Finding(problem, "Give each a folder of its own.", place=step.place)
            owners.setdefault(to, step.name)


def _branches(steps: Sequence[PlannedStep]) -> Iterator[Finding]:
    owners: dict[tuple[str, str], str] = {}
    for step in steps:
        if isinstance(step.method, Hub):
            at = step.method.repo.lower(), step.method.branch
            owner = owners.setdefault(at, step.name)
            if owner != step.name:
                problem = f"{step.name} and {owner} publish to one branch, {at[1]} of {step.method.repo}"
                yield Finding(problem, "Give each a repository or a branch of its own.", place=step.place)
