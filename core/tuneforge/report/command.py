"""`tuneforge report`: finds a run, writes its page, and tells it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from tuneforge_registry import Registry

from ..console import open_console
from ..errors import RefusedError
from .gather import gather
from .page import PAGE, write_page
from .terminal import show


def report(registry: Registry, wanted: str | None, to: Path | None, open_page: bool, as_json: bool) -> None:
    """Writes the page of a run, the newest where none is wanted, and prints the same, shorter, or as JSON."""
    run_id = find_run(registry, wanted)
    run = gather(registry, run_id)
    path = to or registry.run_folder(run_id) / PAGE
    write_page(run, path)
    if as_json:
        document = {"report": str(path.absolute())} | asdict(run)
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))
    else:
        show(open_console(), run)
        click.echo(f"report: {path}")
    if open_page and click.launch(str(path)):
        raise RefusedError("no browser could be opened", f"Open {path} yourself.", "--open")


def find_run(registry: Registry, wanted: str | None) -> str:
    """A run by its id or the beginning of it, or the newest. Raises RefusedError if that is none or several."""
    records = list((registry.home / "runs").glob("*.json"))
    if not records:
        raise RefusedError("no run is recorded", "Carry out a recipe first: tuneforge run.", str(registry.home))
    if wanted is None:  # an id begins with the second in which the run did
        return max(records, key=lambda path: (path.stem[:15], path.stat().st_mtime_ns)).stem
    found = sorted(path.stem for path in records if path.stem.startswith(wanted))
    if wanted in found:
        return wanted
    if not found:
        newest = ", ".join(sorted((path.stem for path in records), reverse=True)[:3])
        raise RefusedError(f"there is no run {wanted}", f"The newest are {newest}.", "command line")
    if len(found) > 1:
        fix = f"Give more of one: {', '.join(found[:5])}."
        raise RefusedError(f"{len(found)} runs begin with {wanted}", fix, "command line")
    return found[0]
