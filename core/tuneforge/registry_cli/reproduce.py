"""`tuneforge registry reproduce`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import json_option, open_registry, print_json, print_table

if TYPE_CHECKING:
    from ..reproduce import Agreement


@click.command()
@click.argument("ref")
@click.option(
    "--in", "home", type=click.Path(file_okay=False, path_type=Path), help="The new registry.  [one that is gone after]"
)
@click.option(
    "--with-present-packages", is_flag=True, help="Do with the versions that are here, and tell which differ."
)
@json_option
@click.pass_obj
def reproduce(obj: dict[str, Any], ref: str, home: Path | None, with_present_packages: bool, as_json: bool) -> None:
    """Run the recorded recipe of an artifact again, from nothing, and tell whether every step gives the same bytes.

    It runs in a registry of its own, without what is there already. Packages have the versions that they had: where
    those here are others, an environment is made with them. What the recipe has read from disk must be the same still.
    A release is written aside, and what was published to others is not published again. Ends with 1 if a step differs.
    """
    from ..console import show_findings, watch
    from ..errors import DONE, STEP_FAILED, RefusedError
    from ..reproduce import is_fresh, prepared

    registry = open_registry(obj)
    digest = registry.resolve(ref)
    if home is not None and not is_fresh(home):
        raise RefusedError(f"{home} is not empty", "Name a folder that is not there yet.", "--in")
    with prepared(registry, digest, home, with_present_packages) as reproduction:
        show_findings(reproduction.told)
        if not as_json:
            click.echo(f"run {reproduction.recorded.run} again, until {reproduction.recorded.step}")
        with watch(reproduction.plan, stderr=as_json) as observer:
            record, agreements = reproduction.carry_out(observer)
    same = all(agreement.same for agreement in agreements)
    if as_json:
        steps = [vars(agreement) | {"same": agreement.same} for agreement in agreements]
        told = [vars(finding) for finding in reproduction.told]
        print_json({"run": reproduction.recorded.run, "same": same, "steps": steps, "told": told})
    else:
        _show(agreements, record)
    sys.exit(DONE if same else STEP_FAILED)


def _show(agreements: list[Agreement], record: dict[str, Any]) -> None:
    rows = [(each.step, each.then[:12], (each.now or "none")[:12], _verdict(each)) for each in agreements]
    click.echo()
    print_table(("step", "then", "now", ""), rows)
    for step in record["steps"]:
        if step["status"] == "failed":
            click.secho(step["error"], fg="red", err=True)
    differing = [each.step for each in agreements if not each.same]
    if differing:
        click.echo(f"{len(differing)} of {len(agreements)} steps differ; the first is {differing[0]}")
    else:
        click.echo(f"all {len(agreements)} steps give the same bytes")


def _verdict(agreement: Agreement) -> str:
    return "same" if agreement.same else "differs" if agreement.now else "not made"
