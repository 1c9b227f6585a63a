"""`tuneforge registry tag`."""

from __future__ import annotations

from typing import Any

import click

from ..errors import RefusedError
from ..redaction import redacted_text
from .common import json_option, open_registry, print_json, print_text, tags_and_note


@click.command()
@click.argument("ref")
@click.argument("name", required=False)
@click.option("--alias", "aliases", multiple=True, help="Let this alias of the name stand for it, such as production.")
@click.option("--tag", "tags", multiple=True, help="Give the version this tag.")
@click.option("--note", help="Say this of the version, instead of what was said.")
@click.option("--remove-alias", "no_aliases", multiple=True, metavar="ALIAS", help="Remove an alias of the name.")
@click.option("--remove-tag", "no_tags", multiple=True, metavar="TAG", help="Take a tag off the version.")
@json_option
@click.pass_obj
def tag(
    obj: dict[str, Any],
    ref: str,
    name: str | None,
    aliases: tuple[str, ...],
    tags: tuple[str, ...],
    note: str | None,
    no_aliases: tuple[str, ...],
    no_tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Give an artifact a name, as its newest version; or say something of a version that is there.

    With NAME, the artifact becomes its newest version; NAME may be in a namespace, as team/orders. Without NAME, REF is
    a version of a name, and gets the aliases, tags and note.

    \b
    tuneforge registry tag 6f3a8e22 team/orders --alias staging --note "first that knows dates"
    tuneforge registry tag team/orders@v3 --alias production --tag reviewed
    tuneforge registry tag team/orders@v3 --remove-tag reviewed --remove-alias staging
    """
    for said in (*tags, note or ""):
        if redacted_text(said) != said:
            raise RefusedError("there is a secret in what is to be said", "Others will read it: leave it out.", "tag")
    registry = open_registry(obj)
    registry.check_words(aliases, tags, note)
    if name is not None:
        version = registry.tag(name, registry.resolve(ref))
    else:
        found = registry.version_of(ref)
        if found is None:
            registry.resolve(ref)  # says so if there is nothing of that name at all
            raise RefusedError(f"{ref} is no version of a name", f"Give it one: tag {ref} NAME.", "tag")
        if not (aliases or tags or no_aliases or no_tags or note is not None):
            raise RefusedError("there is nothing to say", "Give a NAME, or --alias, --tag or --note.", "tag")
        name, version, _ = found
    about = registry.describe(name, version, tags, no_tags, note)
    for alias in no_aliases:
        registry.remove_alias(name, alias)
    for alias in aliases:
        registry.point(name, version, alias)
    known = registry.names()[name]
    here = [alias for alias, number in known.aliases.items() if number == version]
    if as_json:
        document = {"name": name, "version": version, "digest": known.versions[version], "aliases": here}
        print_json(document | {"tags": about.tags, "note": about.note})
        return
    said = tags_and_note(about.tags, about.note)
    print_text(f"{name}@v{version}" + "".join(f" @{alias}" for alias in here) + (f"  {said}" if said else ""))
