"""What the Hub, or its cache on this machine, has of a data set. The one module here that imports huggingface_hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import CachedRepoTreeNotFoundError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.hf_api import RepoFile

from tuneforge import Finding, StepError
from tuneforge.kit.hub import COMMIT
from tuneforge.kit.hub_client import AWAY, asking, bar, commit_of, line, noted, refusal, why_away

from .hub import Seen, Wanted, refuse

_AT_ONCE = 16 << 20
"""Bytes that a plan fetches, so as to look at the rows; of more, it knows the names alone."""


def look(wanted: Wanted) -> Seen:
    """The commit that the revision stands for, and what is wrong with its files; these too, where they are few.

    Asks the Hub, unless the revision is a commit that is in the cache; when the Hub cannot be reached, the cache
    answers.
    """
    repo, revision = wanted.repo, wanted.revision
    try:
        if COMMIT.fullmatch(revision) and (seen := _cached(wanted, revision)):
            return seen
        with asking():
            return _ask(wanted)
    except (*AWAY, HFValidationError) as error:
        refused = refusal(error, repo, revision, "dataset")
        return Seen(revision, findings=(refused,)) if refused else _offline(wanted, error)


def _ask(wanted: Wanted) -> Seen:
    repo = wanted.repo
    commit = commit_of(repo, wanted.revision, "dataset")
    if seen := _cached(wanted, commit):
        return seen
    sizes = _sizes(repo, commit)
    found = tuple(wanted.problems(sizes))
    names = tuple(wanted.of(sizes))
    if any(finding.level == "error" for finding in found) or sum(sizes[name] for name in names) > _AT_ONCE:
        return Seen(commit, names, findings=found)
    return Seen(commit, names, _fetch(repo, commit, names), found)


def fetch(wanted: Wanted) -> tuple[Path, Sequence[str]]:
    """The wanted files in the folder of the cache, for a revision that is a commit. Raises StepError."""
    repo, commit = wanted.repo, wanted.revision
    seen = look(wanted)
    refuse(seen.findings)
    if seen.folder:
        return seen.folder, seen.names
    try:
        return _fetch(repo, commit, seen.names), seen.names
    except (*AWAY, OSError) as error:
        raise StepError(
            f"{repo}@{commit[:12]} cannot be fetched: {line(error)}", "Run again: what has come already is kept."
        ) from error


def _sizes(repo: str, commit: str) -> Mapping[str, int]:
    """The files of a commit, with their sizes in bytes."""
    entries = HfApi().list_repo_tree(repo, repo_type="dataset", revision=commit, recursive=True)
    return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}


def _fetch(repo: str, commit: str, names: Sequence[str], cached: bool = False) -> Path:
    """The folder of the cache, with these files; `cached`, with what is there."""
    # A name is a pattern here: what would be one of another file is made plain.
    plain = [name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]") for name in names]
    return Path(
        snapshot_download(
            repo,
            repo_type="dataset",
            revision=commit,
            allow_patterns=plain,
            local_files_only=cached,
            tqdm_class=bar(None),
        )
    )


def _cached(wanted: Wanted, commit: str) -> Seen | None:
    """The data set out of the cache, if all that is wanted of it is there."""
    try:
        tree = get_cached_repo_tree(wanted.repo, repo_type="dataset", revision=commit)
        names = wanted.of([entry.path for entry in tree])
        folder = _fetch(wanted.repo, commit, (), cached=True)  # the client looks for thousands of names in minutes
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
        return None
    if not all((folder / name).exists() for name in names):
        return None
    found = tuple(wanted.problems([entry.path for entry in tree]))
    return Seen(commit, tuple(names), folder, found)


def _offline(wanted: Wanted, error: Exception) -> Seen:
    """What the cache knows when the Hub is away."""
    repo, revision, why = wanted.repo, wanted.revision, why_away(error)
    commit = noted(repo, revision, "dataset") or revision
    seen = _cached(wanted, commit)
    if seen is None:
        problem = f"{why}, and the data of {repo} is not in the cache, or not all of it"
        fix = "Plan again with a connection; `hf cache ls` shows what is here."
        return Seen(commit, findings=(Finding(problem, fix, field="repo"),))
    told = f"{why}: {repo} {revision} is taken to be {commit[:12]}, as the cache says"
    return Seen(commit, seen.names, seen.folder, (*seen.findings, Finding(told, level="warning", field="repo")))
