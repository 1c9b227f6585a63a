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
from tuneforge.kit.hub_client import AWAY, asking, bar, commit_of, line, link, noted, refusal, why_away

from . import folders
from .hub import Layout, Seen

__all__ = ["fetch", "link", "look"]


def look(repo: str, revision: str, layout: Layout = folders) -> Seen:
    """Finds the commit that a revision stands for, and fetches everything but the weights for the plan to go by.

    `layout` is what is looked for: a model, or an adapter.

    Asks the Hub, unless `revision` is a commit that is in the cache; when the Hub cannot be reached, the cache answers.
    """
    try:
        if COMMIT.fullmatch(revision) and (seen := _cached(repo, revision, layout)).whole:
            return seen
        with asking():
            return _ask(repo, revision, layout)
    except (*AWAY, HFValidationError) as error:
        refused = refusal(error, repo, revision)
        if refused:
            return Seen(revision, findings=(refused,))
        return _offline(repo, revision, error, layout)


def fetch(repo: str, commit: str, step: Step, layout: Layout = folders) -> Path:
    """The folder of the Hub's cache with all that makes the model or adapter, fetched if need be. Raises StepError."""
    try:
        folder = _settings(repo, commit, layout)
        for name in layout.weights(folder) or ["model.safetensors"]:
            step.log(f"{repo}@{commit[:12]}: {name}")
            hf_hub_download(repo, name, revision=commit, tqdm_class=bar(step.progress))
    except (*AWAY, OSError) as error:
        raise StepError(
            f"{repo}@{commit[:12]} cannot be fetched: {line(error)}", "Run again: what has come already is kept."
        ) from error
    return folder


def _ask(repo: str, revision: str, layout: Layout) -> Seen:
    commit = commit_of(repo, revision)
    if (seen := _cached(repo, commit, layout)).whole:
        return seen
    folder = _settings(repo, commit, layout)
    names = [entry.path for entry in get_cached_repo_tree(repo, revision=commit)]
    found = list(layout.lacking(names, repo)) or list(layout.foreign(folder))
    return Seen(commit, folder, findings=tuple(found))


def _settings(repo: str, commit: str, layout: Layout, cached: bool = False) -> Path:
    """The folder of the cache with everything that makes the model or adapter, but for its weights."""
    return Path(
        snapshot_download(
            repo,
            revision=commit,
            allow_patterns=list(layout.SETTINGS),
            local_files_only=cached,
            tqdm_class=bar(None),
        )
    )


def _cached(repo: str, commit: str, layout: Layout) -> Seen:
    """What the cache has of a commit."""
    try:
        folder = _settings(repo, commit, layout, cached=True)
    except LocalEntryNotFoundError:
        return Seen(commit)
    names = layout.weights(folder) or ["model.safetensors"]
    if not all((folder / name).exists() for name in (layout.CONFIG, *names)):
        return Seen(commit)
    return Seen(commit, folder, whole=True, findings=tuple(layout.problems(folder)))


def _offline(repo: str, revision: str, error: Exception, layout: Layout) -> Seen:
    """What the cache knows when the Hub is away."""
    why = why_away(error)
    commit = noted(repo, revision) or revision
    seen = _cached(repo, commit, layout)
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
