"""`tuneforge registry rm`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from tuneforge_registry import Registry

from ..report.figures import size
from .common import json_option, open_registry, print_json


@click.command()
@click.argument("ref")
@click.option("--yes", is_flag=True, help="Remove it; without this, only tell.")
@json_option
@click.pass_obj
def rm(obj: dict[str, Any], ref: str, yes: bool, as_json: bool) -> None:
    """Remove a name, a version (name@v3), an alias (name@production) or an artifact (its digest).

    Without --yes it only tells what that would remove, and what still needs it. An artifact that others sit on, that
    has a name, or that a run uses is refused. The artifacts of a name stay until gc; numbers of versions are never
    used again.
    """
    registry = open_registry(obj)
    name, at, point = ref.partition("@")
    known = registry.names().get(name)
    found = registry.version_of(ref) if known else None
    if found is None or known is None:
        document = _remove_artifact(registry, registry.resolve(ref), yes)
    elif at and point in known.aliases:
        document = {"removed": [ref], "artifacts": []}
        if yes:
            registry.remove_alias(name, point)
    else:
        numbers = [found[1]] if at else list(known.versions)
        lost = [f"{name}@v{number}" for number in numbers]
        lost += [f"{name}@{alias}" for alias, number in known.aliases.items() if number in numbers]
        digests = dict.fromkeys(known.versions[number] for number in numbers)
        document = {"removed": lost, "artifacts": [_left(registry, digest, lost) for digest in digests]}
        if yes:
            registry.remove_name(name, found[1] if at else None)
    if as_json:
        print_json({"done": yes} | document)
        return
    for what in document["removed"]:
        click.echo(f"{'removed' if yes else 'would remove'} {what}")
    for left in document["artifacts"]:
        click.echo(f"  the artifact {left['digest'][:12]} ({size(left['size'])}) {_why(left)}")
    if document.get("bytes") is not None:
        click.echo(f"  {size(document['bytes'])} of files that nothing else has")
    if users := document.get("users"):
        click.echo("  made of it, and not to be made again without it: " + ", ".join(user[:12] for user in users[:8]))
    if not yes:
        click.echo("--yes does it")


def _remove_artifact(registry: Registry, digest: str, yes: bool) -> dict[str, Any]:
    users = registry.users(digest)
    removal = registry.remove_artifact(digest, dry_run=not yes)
    removal.refuse()
    return {"removed": [digest], "artifacts": [], "bytes": removal.bytes, "users": users}


def _left(registry: Registry, digest: str, lost: Sequence[str]) -> dict[str, Any]:
    """What becomes of the artifact of a version that goes with all that is `lost`."""
    names = [f"{version.name}@v{version.number}" for version in registry.versions(digest)]
    there = digest in registry
    return {
        "digest": digest,
        "size": registry.manifest(digest).size if there else 0,
        "names": [name for name in names if name not in lost],
        "bases": [user for user in registry.users(digest) if registry.manifest(user).base == digest],
    }


def _why(left: dict[str, Any]) -> str:
    if left["names"]:
        return f"stays: it is {', '.join(left['names'])} too"
    if left["bases"]:
        return f"stays as long as {', '.join(user[:12] for user in left['bases'][:8])} needs it as its base"
    return "stays until gc takes it"
