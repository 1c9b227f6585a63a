"""`tuneforge registry export`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from ..errors import RefusedError
from ..report.figures import size
from .common import open_registry
from .progress import shown


@click.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--with-ancestors", is_flag=True, help="Also the files of what they were made from, not only records.")
@click.pass_obj
def export(obj: dict[str, Any], refs: tuple[str, ...], file: Path, with_ancestors: bool) -> None:
    """Write artifacts with all that they need into one portable FILE; - is standard output.

    In it are their files, what they sit on, their names with tags and notes, and the records of the steps that made
    them. The same content gives the same bytes.
    """
    registry = open_registry(obj)
    digests = [registry.resolve(ref) for ref in refs]
    with _written(file) as stream, shown("exporting") as progress:
        done = registry.export_to(stream, digests, with_ancestors, progress)
    for digest in done.missing:
        click.echo(f"not here any more, only told of: {digest[:12]}", err=True)
    artifacts, names = len(done.contents.artifacts), ", ".join(done.contents.names) or "no name"
    click.echo(
        f"exported {artifacts} artifacts ({names}), {len(done.contents.runs)} runs, {size(done.bytes)}", err=True
    )


@contextlib.contextmanager
def _written(file: Path) -> Iterator[IO[bytes]]:
    """A stream to `file`, which is there at the end of the block and not before."""
    if str(file) == "-":
        yield sys.stdout.buffer
        return
    if file.exists():
        raise RefusedError(f"{file} is there already", "Remove it, or choose another name.")
    part = file.with_name(f"{file.name}.part-{os.urandom(4).hex()}")
    try:
        with part.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
