"""`tuneforge registry lineage`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import json_option, open_registry, print_json, print_text

if TYPE_CHECKING:
    from tuneforge_registry.lineage import Lineage


@click.command()
@click.argument("ref")
@click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it into this file, an SVG picture."
)
@json_option
@click.pass_obj
def lineage(obj: dict[str, Any], ref: str, picture: Path | None, as_json: bool) -> None:
    """Show how an artifact came to be, as a tree or as a picture."""
    registry = open_registry(obj)
    origin = registry.lineage(registry.resolve(ref))
    if picture is not None:
        from ..report.ancestry import ancestry_picture

        named = {digest: [str(each) for each in registry.versions(digest)] for digest in digests(origin)}
        picture.write_text(ancestry_picture(origin, named, ref), encoding="utf-8")
    if as_json:
        print_json(_document(origin, set()))
    elif picture is None:
        print_text("\n".join(_tree(origin, "", "", "", set())))
    else:
        click.echo(picture)


def digests(at: Lineage) -> list[str]:
    """Of everything that went into it, itself included."""
    found = dict.fromkeys([at.digest])
    todo = [at]
    while todo:
        for _, source in sources(todo.pop()):
            if source.digest not in found:
                found[source.digest] = None
                todo.append(source)
    return list(found)


def sources(at: Lineage) -> list[tuple[str, Lineage]]:
    """What it was made of and what it sits on, each with its role."""
    found = [(name, source) for name, given in at.inputs.items() for source in given]
    return found + ([("base", at.base)] if at.base else [])


def _tree(at: Lineage, role: str, lead: str, indent: str, told: set[str]) -> Iterator[str]:
    step = at.step or {}
    made = f"{step.get('name')} ({step.get('stage')}: {step.get('method')})  " if step else ""
    given = sources(at)
    again = bool(given) and at.digest in told
    yield f"{lead}{role}{made}{at.kind or 'unknown'} {at.digest[:12]}" + ("  (as above)" if again else "")
    told.add(at.digest)
    for place, (name, source) in enumerate([] if again else given, 1):
        last = place == len(given)
        yield from _tree(
            source,
            f"{name}: ",
            indent + ("└── " if last else "├── "),
            indent + ("    " if last else "│   "),
            told,
        )


def _document(at: Lineage, told: set[str]) -> dict[str, Any]:
    """As JSON; what stands there already is told without what is below it, and marked."""
    known = {"digest": at.digest, "kind": at.kind, "run": at.run, "step": dict(at.step) if at.step else None}
    if at.digest in told and sources(at):
        return {"digest": at.digest, "kind": at.kind, "as_above": True}
    told.add(at.digest)
    return known | {
        "inputs": {name: [_document(source, told) for source in given] for name, given in at.inputs.items()},
        "base": _document(at.base, told) if at.base else None,
    }
