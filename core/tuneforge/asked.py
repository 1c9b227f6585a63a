"""What a person means by a reference to an artifact."""

from __future__ import annotations

from collections.abc import Mapping

from tuneforge_registry import Registry, RegistryError

from .artifacts import Artifact
from .errors import RefusedError, TuneforgeError
from .plan import Result, stored


def asked_for(ref: str, registry: Registry, kinds: Mapping[str, type[Artifact]]) -> tuple[str, Result]:
    """The digest and facts of the artifact of that name, name@version, name@alias or digest.

    Raises RefusedError, with the nearest right thing.
    """
    try:
        digest = registry.resolve(ref)
        return digest, stored(registry, digest, kinds)
    except RegistryError as error:
        raise RefusedError(error.problem, _step_called(ref, registry) or error.fix, ref) from error
    except TuneforgeError as error:
        raise RefusedError(error.finding.problem, error.finding.fix, ref) from error


def _step_called(name: str, registry: Registry) -> str:
    """Where to find what a step of that name made last; empty if there is none. A step is no name, but a near miss."""
    for run in registry.runs().values():
        for step in run.get("steps", ()):
            if step.get("name") == name and step.get("digest"):
                return f"The step {name} of run {run['id']} made {step['digest'][:12]}: that is its name here."
    return ""
