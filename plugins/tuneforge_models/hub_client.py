"""What the Hub, or its cache on this machine, has of a model. The one module here that imports huggingface_hub."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_cached_repo_tree, hf_hub_download, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError, of httpx or of httpx2
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from tqdm import tqdm  # type: ignore[import-untyped]

from tuneforge import Finding, Step, StepError

from . import folders
from .hub import COMMIT, Seen

_TIMEOUT = float(os.environ.get("HF_HUB_ETAG_TIMEOUT", 3))
"""Seconds; the client's own is none at all for some questions, and a plan should not wait for a Hub that is away."""


def look(repo: str, revision: str) -> Seen:
    """Finds the commit that a revision stands for, and fetches everything but the weights for the plan to go by.

    Asks the Hub, unless `revision` is a commit that is in the cache; when the Hub cannot be reached, the cache answers.
    """
    try:
        if COMMIT.fullmatch(revision) and (seen := _cached(repo, revision)).whole:
            return seen
        return _ask(repo, revision)
    except GatedRepoError:
        return _wrong(
            revision,
            f"{repo} is gated, and this machine may not read it",
            f"Accept its terms on {_page(repo)}, then log in with `hf auth login` or set HF_TOKEN.",
        )
    except RevisionNotFoundError:
        return _wrong(
            revision,
            f"{repo} has no branch, tag or commit {revision}",
            f"See those it has on {_page(repo)}.",
            field="revision",
        )
    except RepositoryNotFoundError:
        return _wrong(
            revision,
            f"the Hub has no model {repo}, or this machine may not see it",
            f"Check the name on {_page(repo)}; for a private model, log in with `hf auth login` or set HF_TOKEN.",
        )
    except HFValidationError:
        return _wrong(
            revision, f"{repo} is no repository of the Hub", "Write owner/name; a folder is loaded by load_model: path."
        )
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
            return _wrong(revision, f"the Hub refuses {repo}: {_line(error)}", "Check the login: `hf auth whoami`.")
        return _offline(repo, revision, error)


def fetch(repo: str, commit: str, step: Step) -> Path:
    """The folder of the Hub's cache with all that makes the model; downloads what is not there. Raises StepError."""
    try:
        folder = _settings(repo, commit)
        for name in folders.weights(folder) or ["model.safetensors"]:
            step.log(f"{repo}@{commit[:12]}: {name}")
            hf_hub_download(repo, name, revision=commit, tqdm_class=_bar(step.progress))
    except (HTTPError, OSError) as error:
        raise StepError(
            f"{repo}@{commit[:12]} cannot be fetched: {_line(error)}", "Run again: what has come already is kept."
        ) from error
    return folder


def link(blob: Path, target: Path) -> None:
    """A hard link of a file of the Hub's cache; a copy where that cannot be.

    The registry makes what it takes read-only. That harms neither side: the cache, too, never writes into a finished
    blob, it only replaces or removes it. A file of another user is copied, since its mode is not ours to change.
    """
    blob = blob.resolve()  # a snapshot is made of symlinks, and those would end when the cache is cleaned
    if blob.stat().st_uid == os.getuid():
        try:
            os.link(blob, target)
            return
        except OSError:  # on another filesystem, or one without hard links
            pass
    shutil.copyfile(blob, target)


def _ask(repo: str, revision: str) -> Seen:
    commit = str(HfApi().model_info(repo, revision=revision, timeout=_TIMEOUT).sha)
    _remember(repo, revision, commit)
    if (seen := _cached(repo, commit)).whole:
        return seen
    folder = _settings(repo, commit)
    names = [entry.path for entry in get_cached_repo_tree(repo, revision=commit)]
    found = list(folders.lacking(names, repo)) or list(folders.foreign(folder))
    return Seen(commit, folder, findings=tuple(found))


def _remember(repo: str, revision: str, commit: str) -> None:
    """Has the cache note what a branch stands for, so that it can tell when the Hub is away."""
    try:
        if HfApi().resolve_revision(repo, revision=revision, local_files_only=True).resolved == commit:
            return
    except RevisionResolutionError:
        pass
    HfApi().resolve_revision(repo, revision=revision)


def _settings(repo: str, commit: str, cached: bool = False) -> Path:
    """The folder of the cache with everything that makes the model, but for its weights."""
    return Path(
        snapshot_download(
            repo,
            revision=commit,
            allow_patterns=list(folders.SETTINGS),
            local_files_only=cached,
            tqdm_class=_bar(None),
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
    asked = isinstance(error, OfflineModeIsEnabled)
    why = "HF_HUB_OFFLINE is set" if asked else f"the Hub cannot be reached ({_line(error)})"
    try:
        commit = HfApi().resolve_revision(repo, revision=revision, local_files_only=True).resolved
    except RevisionResolutionError:
        commit = revision
    seen = _cached(repo, commit)
    if not seen.whole:
        at = repo if commit == revision else f"{repo}@{commit[:12]}"
        return _wrong(
            commit,
            f"{why}, and {at} is not in the cache, or not all of it",
            "Plan again with a connection; `hf cache ls` shows what is here.",
        )
    warnings = []
    if not asked:
        warnings.append(f"{why}: {repo} {revision} is taken to be {commit[:12]}, as the cache says")
    try:
        get_cached_repo_tree(repo, revision=commit)
    except CachedRepoTreeNotFoundError:
        warnings.append(f"the cache does not know which files {repo} has: such as were never fetched are left out")
    found = tuple(Finding(warning, level="warning") for warning in warnings)
    return replace(seen, findings=(*seen.findings, *found))


def _wrong(commit: str, problem: str, fix: str, field: str = "repo") -> Seen:
    return Seen(commit, findings=(Finding(problem, fix, field=field),))


def _page(repo: str) -> str:
    return f"{HfApi().endpoint}/{repo}"


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _bar(report: Callable[[float, float], None] | None) -> type[tqdm]:
    """A progress bar for the client that draws nothing and tells `report` of bytes done and bytes in all."""

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float = 1) -> None:
            self.n += n
            if report and self.total:
                report(self.n, self.total)

        def update_transfer(self, n: float = 1) -> None:
            """Bytes on their way: counted when they are written."""

        def set_transfer_postfix_str(self, *_: Any, **__: Any) -> None: ...

    return Bar
