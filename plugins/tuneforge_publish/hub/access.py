"""Whether a repository can be published to, asked before anything runs; and whether what was published stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import yaml
from huggingface_hub import HfApi, ModelInfo, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined] # which are public all the same
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from tuneforge import Finding
from tuneforge.kit.hub_client import AWAY, TIMEOUT, asking, line, page, why_away

if TYPE_CHECKING:
    from . import Hub

_LOGIN = "Log in with `hf auth login`, or set HF_TOKEN, with a token that may write (https://huggingface.co/settings/tokens)."
_WRITING = frozenset({"repo.write", "repo.content.write"})


def findings(method: Hub) -> Iterator[Finding]:
    """What would stop the upload, hours from now."""
    repo = method.repo
    if constants.is_offline_mode():
        yield Finding(
            f"HF_HUB_OFFLINE is set, and {repo} is to be published to",
            "Unset it, or leave this step out with --until.",
        )
        return
    try:
        with asking():
            found = [*_access(HfApi(), method), *_card(method)]
        yield from found
    except HFValidationError as error:
        yield Finding(f"{repo} cannot be a repository: {line(error)}", "Write owner/name.", field="repo")
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            yield Finding(f"{page(repo)} does not take the token: {line(error)}", _LOGIN, field="repo")
        elif status == 403:
            yield Finding(f"the token may not write to {repo}", _LOGIN, field="repo")
        else:
            yield _unknown(repo, error)
    except AWAY as error:
        yield _unknown(repo, error)


def stands(repo: str, branch: str, tag: str | None, receipt: Mapping[str, Any]) -> bool:
    """Whether the branch, and the tag, still are the commit of a receipt. Who cannot be asked does not say so."""
    api = HfApi()
    try:
        revisions = [branch, *([tag] if tag else [])]
        with asking():
            heads = [api.model_info(repo, revision=revision, timeout=TIMEOUT).sha for revision in revisions]
        return all(head == receipt.get("commit") for head in heads)
    except (*AWAY, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError, OfflineModeIsEnabled):
        return False


def _access(api: HfApi, method: Hub) -> Iterator[Finding]:
    repo, there = method.repo, _there(api, method.repo)
    ours = constants.ENDPOINT == constants._HF_DEFAULT_ENDPOINT
    if "/" not in repo and ours:
        yield Finding(f"{repo} names no owner", f"Write owner/{repo}.", field="repo")
        return
    if method.dry_run:  # which only reads
        if there is None:
            yield Finding(f"{repo} is not there, or may not be seen: all files are new", level="warning", field="repo")
        return
    if there is None and method.branch != constants.DEFAULT_REVISION and not ours:
        yield Finding(
            f"{repo} is not there, and a registry that is served makes no branch in what is empty",
            f"Publish to main first, if {page('')} is one.",
            level="warning",
            field="branch",
        )
    if there is not None:
        api.auth_check(repo, write=True)
        if there.private is not None and there.private != method.private and "private" in method.model_fields_set:
            is_now = "private" if there.private else "public"
            yield Finding(
                f"{repo} is there and {is_now}, and publishing does not change that",
                f"Change it on {page(repo)}/settings, or take private: out.",
                level="warning",
                field="private",
            )
    elif get_token():
        yield from _may_create(api.whoami(), repo, ours)
    elif ours:
        yield Finding(f"there is no token to make {repo} with", _LOGIN, field="repo")
    else:
        yield Finding(
            f"{repo} is not there, and without a token it is not known whether {page('')} lets it be made",
            "Set HF_TOKEN if it asks for one.",
            level="warning",
            field="repo",
        )


def _there(api: HfApi, repo: str) -> ModelInfo | None:
    try:
        return api.model_info(repo, timeout=TIMEOUT)
    except RepositoryNotFoundError:
        return None


def _may_create(who: Mapping[str, Any], repo: str, ours: bool) -> Iterator[Finding]:
    """By what the Hub says of a token: its role, and of a fine-grained one what it may do where."""
    token = who.get("auth", {}).get("accessToken", {})
    owner = repo.partition("/")[0]
    if token.get("role") == "read":
        yield Finding(f"{repo} is not there, and the token may only read: it cannot be made", _LOGIN, field="repo")
        return
    groups = [str(group.get("name")) for group in who.get("orgs", ())]
    if ours and owner.lower() not in map(str.lower, (str(who.get("name")), *groups)):
        yield Finding(
            f"{repo} is not there, and {who.get('name')} is no member of {owner}: it cannot be made",
            f"Publish as {who.get('name')}/{repo.partition('/')[2]}, or log in as one who is.",
            field="repo",
        )
    elif token.get("role") == "fineGrained":
        scopes = token.get("fineGrained", {}).get("scoped", [])
        named = [scope for scope in scopes if str(scope.get("entity", {}).get("name")).lower() == owner.lower()]
        if not any(_WRITING & set(scope.get("permissions", ())) for scope in named):
            yield Finding(f"{repo} is not there, and the token may not write as {owner}", _LOGIN, field="repo")


def _card(method: Hub) -> Iterator[Finding]:
    """What the Hub says of that part of the card's metadata that a person wrote."""
    values = {
        "license": method.license,
        "license_name": method.license_name,
        "license_link": method.license_link,
        "language": list(method.language),
        "base_model": method.base_model,
        "datasets": list(method.datasets),
    }
    told = yaml.safe_dump({name: value for name, value in values.items() if value}, sort_keys=False)
    problem = card_problem(f"---\n{told}---\n") if any(values.values()) else ""
    if problem:
        yield Finding(f"the Hub refuses the card: {problem}", "Write it as the Hub has it.")


def card_problem(card: str) -> str:
    """What the Hub has against a card; empty for nothing. Raises the client's errors.

    As `ModelCard.validate` asks, but with the token: a server may answer to nobody without one.
    """
    answer = get_session().post(
        f"{constants.ENDPOINT}/api/validate-yaml",
        json={"content": card, "repoType": "model"},
        headers=build_hf_headers(),
    )
    if answer.status_code == 400:
        told = [str(error.get("message")) for error in answer.json().get("errors", ())]
        return "; ".join(" ".join(message.split()) for message in told) or "it does not say why"
    hf_raise_for_status(answer)
    return ""


def _unknown(repo: str, error: Exception) -> Finding:
    return Finding(
        f"whether {repo} can be published to is not known: {why_away(error)}",
        "It is tried when the step runs; what was made until then is kept.",
        level="warning",
        field="repo",
    )
