"""Publishing: artifacts brought to where others use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuneforge import Finding, Publish, hookimpl

from .folder import Folder
from .judged import unknown
from .llama_cpp import LlamaCpp
from .ollama import Ollama
from .tgi import Tgi
from .to_folder import ToFolder
from .vllm import Vllm

if TYPE_CHECKING:
    from tuneforge.plan import PlannedStep

__all__ = ["Folder", "LlamaCpp", "Ollama", "Tgi", "Vllm"]


@hookimpl
def register_publish() -> list[type[Publish]]:
    return [Folder, LlamaCpp, Ollama, Tgi, Vllm]


@hookimpl
def extend_plan(steps: Sequence[PlannedStep]) -> list[Finding]:
    """Two releases cannot share a folder, nor can one lie inside the other: each would be in the other's way. And what
    is named under `despite` must be there."""
    findings = [*unknown(steps)]
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
                findings.append(Finding(problem, "Give each a folder of its own.", place=step.place))
            owners.setdefault(to, step.name)
    return findings
