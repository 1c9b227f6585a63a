"""What the Hub, or its cache on this machine, has of a model. The one module here that imports huggingface_hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from huggingface_hub import get_cached_repo_tree, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from tuneforge import Finding, Step, StepError
from tuneforge.kit.hub import COMMIT
from tuneforge.kit.hub_client import AWAY, bar, commit_of, line, link, noted, refusal, why_away

from . import folders
from .hub import Seen

__all__ = ["fetch", "link", "look"]


def look(repo: str, revision: str) -> Seen:
    """Finds the commit that a revision stands for, and fetches everything but the weights for the plan to go by.

    Asks the Hub, unless `revision` is a commit that is in the cache; when the Hub cannot be reached, the cache answers.
    """
    try:
        if COMMIT.fullmatch(revision) and (seen := _cached(repo, revision)).whole:
            return seen
        return _ask(repo, revision)
    except (*AWAY, HFValidationError) as error:
        refused = refusal(error, repo, revision)
        if refused:
            return Seen(revision, findings=(refused,))
        return _offline(repo, revision, error)


def fetch(repo: str, commit: str, step: Step) -> Path:
    """The folder of the Hub's cache with all that makes the model; downloads what is not there. Raises StepError."""
    try:
        folder = _settings(repo, commit)
        for name in folders.weights(folder) or ["model.safetensors"]:
            step.log(f"{repo}@{commit[:12]}: {name}")
            hf_hub_download(repo, name, revision=commit, tqdm_class=bar(step.progress))
    except (*AWAY, OSError) as error:
        raise StepError(
            f"{repo}@{commit[:12]} cannot be fetched: {line(error)}", "Run again: what has come already is kept."
        ) from error
    return folder


def _ask(repo: str, revision: str) -> Seen:
    commit = commit_of(repo, revision)
    if (seen := _cached(repo, commit)).whole:
        return seen
    folder = _settings(repo, commit)
    names = [entry.path for entry in get_cached_repo_tree(repo, revision=commit)]
    found = list(folders.lacking(names, repo)) or list(folders.foreign(folder))
    return Seen(commit, folder, findings=tuple(found))


def _settings(repo: str, commit: str, cached: bool = False) -> Path:
    """The folder of the cache with everything that makes the model, but for its weights."""
    return Path(
        snapshot_download(
            repo,
            revision=commit,
            allow_patterns=list(folders.SETTINGS),
            local_files_only=cached,
            tqdm_class=bar(None),
        )
    )


def _cached(repo: str, commit: str) -> Seen:
    """What the cache has of a commit."""
    try:
        folder = _settings(repo, commit, cached=True)
    except LocalEntryNotFoundError:
        return Seen(commit)
    names = folders.weights(folder) or ["model.safetensors"]
    if not all((folder / name).exists() for name in (folders.CONFIG, *names)):
        return Seen(commit)
    return Seen(commit, folder, whole=True, findings=tuple(folders.problems(folder)))


def _offline(repo: str, revision: str, error: Exception) -> Seen:
    """What the cache knows when the Hub is away."""
    why = why_away(error)
    commit = noted(repo, revision) or revision
    seen = _cached(repo, commit)
    if not seen.whole:
        at = repo if commit == revision else f"{repo}@{commit[:12]}"
        problem = f"{why}, and {at} is not in the cache, or not all of it"
        fix = "Plan again with a connection; `hf cache ls` shows what is here."
        return Seen(commit, findings=(Finding(problem, fix, field="repo"),))
    warnings = []
    if not isinstance(error, OfflineModeIsEnabled):
        warnings.append(f"{why}: {repo} {revision} is taken to be {commit[:12]}, as the cache says")
    try:
        get_cached_repo_tree(repo, revision=commit)
    except CachedRepoTreeNotFoundError:
        warnings.append(f"the cache does not know which files {repo} has: such as were never fetched are left out")
    found = tuple(Finding(warning, level="warning") for warning in warnings)
    return replace(seen, findings=(*seen.findings, *found))
