"""The Hub's own client, as plugins share it: which commit a name stands for, and what is wrong when it says no.

HF_ENDPOINT says where the Hub is, HF_TOKEN or `hf auth login` who asks, HF_HUB_OFFLINE that nobody shall ask.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError, of httpx or of httpx2
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
from huggingface_hub.utils import get_session  # type: ignore[attr-defined] # which is public all the same
from tqdm import tqdm  # type: ignore[import-untyped]

from tuneforge import Finding

from ..redaction import redacted_text
from .hub import RepoType

TIMEOUT = float(os.environ.get("HF_HUB_ETAG_TIMEOUT", 3))
"""Seconds; the client's own is none at all for some questions, and a plan should not wait for a Hub that is away."""

AWAY = (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled)
"""What the client may raise when the Hub, or the way to it, does not work."""

_CALLED = {"model": "model", "dataset": "data set"}
_AGAIN = 30.0
"""Seconds in which a Hub that did not answer is not asked again: a recipe may have many steps that would."""
_silent: dict[str, tuple[float, Exception]] = {}


@contextmanager
def asking() -> Iterator[None]:
    """Within, the Hub has TIMEOUT seconds for each answer; one that has just not answered is not asked. Raises AWAY."""
    hub = constants.ENDPOINT
    since, silence = _silent.get(hub, (0.0, None))
    begun = time.monotonic()
    if silence and begun - since < _AGAIN:
        raise silence
    client = get_session()
    before, client.timeout = client.timeout, TIMEOUT
    try:
        yield
    except AWAY as error:
        now = time.monotonic()
        if now - begun >= TIMEOUT and not isinstance(error, HfHubHTTPError):
            _silent[hub] = now, error
        raise
    finally:
        client.timeout = before


def commit_of(repo: str, revision: str, kind: RepoType = "model") -> str:
    """Asks the Hub for the commit that a branch or tag stands for, which the cache then notes. Raises the client's."""
    asked = HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=TIMEOUT)
    commit = str(asked.sha)
    if noted(repo, revision, kind) != commit:
        HfApi().resolve_revision(repo, revision=revision, repo_type=kind)
    return commit


def noted(repo: str, revision: str, kind: RepoType = "model") -> str | None:
    """The commit that a branch or tag stood for when the Hub was last asked; None if the cache does not know."""
    try:
        found = HfApi().resolve_revision(repo, revision=revision, repo_type=kind, local_files_only=True)
    except RevisionResolutionError:
        return None
    return str(found.resolved)


def refusal(error: Exception, repo: str, revision: str, kind: RepoType = "model") -> Finding | None:
    """What the Hub's refusal means, with the remedy; None for an error that is none, as when it cannot be reached."""
    what = _CALLED[kind]
    if isinstance(error, GatedRepoError):
        return Finding(
            f"{repo} is gated, and this machine may not read it",
            f"Accept its terms on {page(repo, kind)}, then log in with `hf auth login` or set HF_TOKEN.",
            field="repo",
        )
    if isinstance(error, RevisionNotFoundError):
        return Finding(
            f"{repo} has no branch, tag or commit {revision}",
            f"See those it has on {page(repo, kind)}.",
            field="revision",
        )
    if isinstance(error, RepositoryNotFoundError):
        return Finding(
            f"the Hub has no {what} {repo}, or this machine may not see it",
            f"Check the name on {page(repo, kind)}; for a private {what}, log in with `hf auth login` or set HF_TOKEN.",
            field="repo",
        )
    if isinstance(error, HFValidationError):
        other = "a folder is loaded by load_model: path" if kind == "model" else "a file is given as path"
        return Finding(f"{repo} is no repository of the Hub", f"Write owner/name; {other}.", field="repo")
    if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
        return Finding(f"the Hub refuses {repo}: {line(error)}", "Check the login: `hf auth whoami`.", field="repo")
    return None


def why_away(error: Exception) -> str:
    """Why nobody answered, in a few words."""
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return f"the Hub cannot be reached ({line(error)})"


def page(repo: str, kind: RepoType = "model") -> str:
    """Where a person finds a repository; without one, the Hub's own address."""
    return redacted_text(f"{HfApi().endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo}".rstrip("/"))


def line(error: Exception) -> str:
    """What an error says, in one line, without the secrets of an address: the Hub's own words, where it has some."""
    told = getattr(error, "server_message", None) or str(error)
    return redacted_text(next(iter(str(told).strip().splitlines()), type(error).__name__))


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


def bar(report: Callable[[float, float], None] | None) -> type[tqdm]:
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
