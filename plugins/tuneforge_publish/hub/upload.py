"""The upload: what differs is sent, and one commit makes it the repository's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.lfs import post_lfs_batch_info
from huggingface_hub.utils import (  # type: ignore[attr-defined] # which are public all the same
    build_hf_headers,
    disable_progress_bars,
    get_session,
)

from tuneforge import Step, StepError
from tuneforge.kit.hub_client import AWAY, line, why_away
from tuneforge.report import figures

from ..release import SUMS
from .access import card_problem
from .shipment import Shipment

if TYPE_CHECKING:
    from . import Hub

_SMALL = 1 << 20
"""Bytes; smaller files come within the commit, or go together when it is made."""
_AT_ONCE = 256
"""Files that the client asks for at once."""
_TOLD = 50


@dataclass(frozen=True)
class Changes:
    """Paths that a commit would add, change and remove; and the commit that it would follow, None for the first."""

    head: str | None
    added: list[str]
    changed: list[str]
    removed: list[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def sent(self) -> list[str]:
        return [*self.added, *self.changed]

    def to_json(self) -> dict[str, list[str]]:
        return {"added": self.added, "changed": self.changed, "removed": self.removed}


def upload(method: Hub, shipment: Shipment, step: Step) -> None:
    """Brings a release to its repository, and writes the receipt: repository and commit, and the files by content.

    Raises StepError for what the Hub refuses, and when the way to it breaks: what has arrived then is not sent again.
    """
    disable_progress_bars()
    api = HfApi()
    try:
        receipt = (_listed if method.dry_run else _published)(api, method, shipment, step)
    except HfHubHTTPError as error:
        raise StepError(*_refused(method.repo, error)) from error
    except (*AWAY, RuntimeError, OSError) as error:  # RuntimeError: the client's and Xet's own for a failed upload
        raise StepError(
            f"{method.repo} was not published: {why_away(error) if isinstance(error, AWAY) else line(error)}",
            "Run again: files that have arrived are not sent again.",
        ) from error
    text = json.dumps({**receipt, "files": dict(sorted(shipment.files.items()))}, indent=2) + "\n"
    (step.out / "receipt.json").write_text(text, encoding="utf-8")


def compare(api: HfApi, repo: str, revision: str, shipment: Shipment) -> Changes:
    """What a commit on a revision would change. Raises the client's errors where there is no such repository."""
    head = str(api.model_info(repo, revision=revision).sha)
    there = {
        entry.path: entry
        for entry in api.list_repo_tree(repo, recursive=True, revision=head)
        if isinstance(entry, RepoFile)
    }
    added = [path for path in shipment.files if path not in there]
    changed = [path for path in shipment.files if path in there and not _same(there[path], shipment, path)]
    earlier: set[str] = set()
    if SUMS in changed:  # every other file of that release is in it
        sums = Path(api.hf_hub_download(repo, SUMS, revision=head)).read_text(encoding="utf-8", errors="replace")
        earlier = {entry[66:] for entry in sums.splitlines()}
    removed = sorted(path for path in earlier if path in there and path not in shipment.files)
    return Changes(head, added, changed, removed)


def _same(entry: RepoFile, shipment: Shipment, path: str) -> bool:
    file = shipment.files[path]
    if entry.size != file["size"]:
        return False
    return entry.lfs.sha256 == file["sha256"] if entry.lfs else entry.blob_id == shipment.git_oid(path)


def _listed(api: HfApi, method: Hub, shipment: Shipment, step: Step) -> dict[str, Any]:
    """The dry run: the changes, told and written down."""
    try:
        changes = compare(api, method.repo, method.branch, shipment)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        step.log(f"{method.repo} has no {method.branch} yet, or it may not be seen")
        changes = Changes(None, list(shipment.files), [], [])
    _tell(changes, shipment, step)
    step.log(f"dry run: nothing was sent to {method.repo}")
    return {"repo": method.repo, "branch": method.branch, "dry_run": True, "changes": changes.to_json()}


def _published(api: HfApi, method: Hub, shipment: Shipment, step: Step) -> dict[str, Any]:
    problem = card_problem(shipment.text("README.md"))
    if problem:  # the client itself asks only when everything has been sent
        raise StepError(f"the Hub refuses the card: {problem}", "Mend the options that it speaks of.")
    repo = method.repo
    api.create_repo(repo, private=method.private, exist_ok=True)
    if method.branch != constants.DEFAULT_REVISION:
        _make_branch(api, repo, method.branch)
    tagged = _tagged(api, repo, method.tag, shipment)
    changes = compare(api, repo, method.branch, shipment)
    _tell(changes, shipment, step)
    commit = changes.head
    if changes:
        if tagged:
            problem = f"{method.branch} of {repo} is another release than its tag {method.tag}, which is this one"
            raise StepError(problem, "Take tag: out to publish it again on the branch.")
        commit = _send(api, repo, method, changes, shipment, step)
    if method.tag and not tagged:
        api.create_tag(repo, tag=method.tag, revision=commit)
    step.metrics(
        repo=repo,
        commit=commit,
        files=len(shipment.files),
        changed=len(changes.sent),
        removed=len(changes.removed),
    )
    step.log(f"published as {repo}@{commit}" if changes else f"{repo}@{commit} is this release already: nothing sent")
    tag = {"tag": method.tag} if method.tag else {}
    return {"repo": repo, "commit": commit, "branch": method.branch, **tag}


def _send(api: HfApi, repo: str, method: Hub, changes: Changes, shipment: Shipment, step: Step) -> str:
    """Sends what differs, and commits it on top of what it was compared with."""
    sizes = {path: shipment.files[path]["size"] for path in changes.sent}
    operations = {path: _operation(path, shipment) for path in changes.sent}
    there = _arrived(api, repo, method.branch, [operations[path] for path in sizes if sizes[path] >= _SMALL])
    large = sorted(path for path in sizes if sizes[path] >= _SMALL and shipment.files[path]["sha256"] not in there)
    done = sum(sizes.values()) - sum(sizes[path] for path in large)
    with _transport(xet=_has_xet(api, repo, method.branch)):
        for path in large:  # one after the other: whenever this is killed, all but one have arrived or not been begun
            api.preupload_lfs_files(repo, [operations[path]], revision=method.branch, free_memory=False)
            done += sizes[path]
            step.progress(done, sum(sizes.values()))
    removals = [CommitOperationDelete(path, is_folder=False) for path in changes.removed]
    # Here the client sends what it has not sent itself, but by git LFS it asks first what has arrived.
    with _transport(xet=False):
        committed = api.create_commit(
            repo,
            [*removals, *operations.values()],
            commit_message=method.message,
            revision=method.branch,
            parent_commit=changes.head,
        )
    arrived = sum(sizes[path] for path in sizes if shipment.files[path]["sha256"] in there)
    step.metrics(bytes_sent=sum(sizes.values()) - arrived)
    return str(committed.oid)


def _arrived(api: HfApi, repo: str, branch: str, operations: Sequence[CommitOperationAdd]) -> set[str]:
    """The sha256 of those files that the server has, though no commit may have them yet: an upload was interrupted."""
    found: set[str] = set()
    for start in range(0, len(operations), _AT_ONCE):
        actions, _, _ = post_lfs_batch_info(
            [operation.upload_info for operation in operations[start : start + _AT_ONCE]],
            token=None,
            repo_type="model",
            repo_id=repo,
            revision=quote(branch, safe=""),
            endpoint=api.endpoint,
            headers=build_hf_headers(),
        )
        found |= {str(action["oid"]) for action in actions if not action.get("actions")}
    return found


def _operation(path: str, shipment: Shipment) -> CommitOperationAdd:
    operation = CommitOperationAdd(path, shipment.contents[path])
    operation.upload_info.sha256 = bytes.fromhex(shipment.files[path]["sha256"])  # or the client reads it all again
    return operation


def _make_branch(api: HfApi, repo: str, branch: str) -> None:
    try:
        api.create_branch(repo, branch=branch, exist_ok=True)
    except BadRequestError as error:
        raise StepError(
            f"{repo} is empty, and a branch has nothing to begin with: {line(error)}", "Publish to main first."
        ) from error


def _tagged(api: HfApi, repo: str, tag: str | None, shipment: Shipment) -> bool:
    """Whether the tag is there, and is this release. Raises StepError where it is another."""
    if tag is None:
        return False
    try:
        changes = compare(api, repo, tag, shipment)
    except RevisionNotFoundError:
        return False
    if changes:
        raise StepError(
            f"{repo} has the tag {tag} already, and it is another release",
            "Name another tag: one that others rely on is not moved.",
        )
    return True


def _has_xet(api: HfApi, repo: str, branch: str) -> bool:
    """Whether large files go by Xet. The client takes every server for one that has it, if the package is there."""
    if constants.HF_HUB_DISABLE_XET:
        return False
    url = f"{api.endpoint}/api/models/{repo}/xet-write-token/{quote(branch, safe='')}"
    return get_session().get(url, headers=build_hf_headers()).status_code not in (404, 405, 501)


@contextmanager
def _transport(xet: bool) -> Iterator[None]:
    """Has the client send large files by Xet, or by git LFS, which every server takes."""
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = not xet
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def _tell(changes: Changes, shipment: Shipment, step: Step) -> None:
    signs: Mapping[str, list[str]] = {"+": changes.added, "~": changes.changed, "-": changes.removed}
    lines = [(sign, path) for sign, paths in signs.items() for path in paths]
    for sign, path in lines[:_TOLD]:
        size = f"  {figures.size(shipment.files[path]['size'])}" if path in shipment.files else ""
        step.log(f"{sign} {path}{size}")
    if len(lines) > _TOLD:
        step.log(f"and {len(lines) - _TOLD} more")


def _refused(repo: str, error: HfHubHTTPError) -> tuple[str, str]:
    status = error.response.status_code
    if status == 412:
        return f"{repo} was changed by somebody while this was sent", "Run again: what has arrived is not sent again."
    if status in (401, 403):
        return f"{repo} refuses the token: {line(error)}", "Log in with `hf auth login`, with a token that may write."
    return f"{repo} was not published: {line(error)}", "Run again: files that have arrived are not sent again."
