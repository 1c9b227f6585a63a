"""`tuneforge registry import`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import IO, Any

import click

from ..report.figures import size
from .common import json_option, open_registry, print_json
from .progress import shown


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--as", "names", multiple=True, metavar="[NAME=]NEW", help="Another name for one of the file's.")
@click.option("--allow-pickle", multiple=True, metavar="PATH", help="Take this file though it is a pickle.")
@click.option("--dry-run", is_flag=True, help="Read and check all of it; commit nothing.")
@json_option
@click.pass_obj
def import_(
    obj: dict[str, Any],
    file: Path,
    names: tuple[str, ...],
    allow_pickle: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take in what `tuneforge registry export` has written to FILE; - is standard input.

    Nothing is committed unless all of it is whole and safe. A version of a name that stands for something else here
    stays, and the import is refused: --as gives it another name.
    """
    registry = open_registry(obj)
    with _read(file) as stream, shown("importing") as progress:
        done = registry.import_from(stream, dict(map(_renaming, names)), allow_pickle, dry_run, progress)
    if as_json:
        told = {
            "artifacts": list(done.contents.artifacts),
            "new": done.new,
            "versions": done.versions,
            "kept": done.kept,
        }
        print_json({"done": not dry_run, **told})
        return
    for kept in done.kept:
        click.echo(kept)
    for digest, manifest in done.contents.artifacts.items():
        state = "new" if digest in done.new else "here already"
        click.echo(f"{manifest.kind} {digest[:12]}  {size(manifest.size)}  {state}")
    for version in done.versions:
        click.echo(f"name {version}")
    verb = "would import" if dry_run else "imported"
    click.echo(f"{verb} {len(done.new)} new artifacts, {len(done.versions)} versions of names")


def _renaming(text: str) -> tuple[str | None, str]:
    old, equals, new = text.rpartition("=")
    return (old, new) if equals else (None, new)


def _read(file: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    return contextlib.nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb")
