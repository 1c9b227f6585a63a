"""`tuneforge registry ls`."""

from __future__ import annotations

import gc as collector
import re
from typing import Any

import click

from tuneforge_registry import Registry, RegistryError, Score, Wanted

from ..errors import RefusedError
from ..report.figures import number, size
from .common import json_option, minute, open_registry, print_json, print_table

_CONDITION = re.compile(r"\s*([^<>=!]*[^<>=!\s])\s*(>=|<=|!=|=|>|<)\s*(\S+)\s*")

_SHOWN = 100
"""Rows of a table, unless told otherwise: who has thousands looks for some of them."""


@click.command()
@click.option("--kind", help="Only artifacts of this kind, such as model.")
@click.option("--name", help="Only those with this name; * and ? stand for any letters, as in 'team/*'.")
@click.option("--tag", help="Only those with a version that has this tag.")
@click.option(
    "--metric", "conditions", multiple=True, metavar="CONDITION", help="Only those scored so, as 'exact_match>=0.8'."
)
@click.option("--base", metavar="MODEL", help="Only what was made of this model: a REF, or a repository of the Hub.")
@click.option("--data", metavar="DATA", help="Only what was made of this data: a REF, a file, or a repository.")
@click.option(
    "--limit", type=click.IntRange(0), help="Only so many, the newest; 0 is all.  [100 in a table, all with --json]"
)
@json_option
@click.pass_obj
def ls(
    obj: dict[str, Any],
    kind: str | None,
    name: str | None,
    tag: str | None,
    conditions: tuple[str, ...],
    base: str | None,
    data: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List the artifacts, newest first: all of them, or those that are looked for.

    \b
    tuneforge registry ls --kind model --metric 'exact_match>=0.8'
    tuneforge registry ls --name 'team/*' --tag reviewed
    tuneforge registry ls --base org/tiny --data orders-chat.jsonl
    """
    collector.disable()  # all that is made here lives to the end: to look for garbage in it takes a quarter of the time
    registry = open_registry(obj)
    metrics = tuple(_condition(text) for text in conditions)
    most = limit if limit is not None else 0 if as_json else _SHOWN
    wanted = Wanted(kind, name, tag, metrics, _root(registry, base), _root(registry, data), most + 1 if most else None)
    asked = list(dict.fromkeys(metric for metric, _, _ in metrics))
    rows, made, versions, judged = registry.ask(
        lambda: (
            registry.artifacts(wanted),
            registry.makers(),
            registry.called(),
            registry.scores() if asked or as_json else [],
        )
    )
    more = bool(most) and len(rows) > most
    rows = rows[: most or None]
    scores = _newest(judged)
    if as_json:
        print_json(
            [
                stored._asdict()
                | {"created": stored.created.isoformat(), "names": versions.get(stored.digest, [])}
                | {"run": made.get(stored.digest, (None, None))[0], "step": made.get(stored.digest, (None, None))[1]}
                | {"scores": scores.get(stored.digest, {})}
                for stored in rows
            ]
        )
        return
    table = [
        (
            stored.digest[:12],
            stored.kind,
            size(stored.size),
            minute(stored.created),
            "{1} in {0}".format(*made[stored.digest]) if stored.digest in made else "",
            *(number(scores[stored.digest][metric]) for metric in asked),
            ", ".join(versions.get(stored.digest, [])),
        )
        for stored in rows
    ]
    print_table(("digest", "kind", "size", "made", "made by", *asked, "names"), table, ("size", *asked))
    if more:
        click.secho(f"these are the newest {most}; --limit 0 shows all", dim=True, err=True)


def _condition(text: str) -> tuple[str, Any, float]:
    found = _CONDITION.fullmatch(text)
    try:
        if found:
            return found[1], found[2], float(found[3])
    except ValueError:
        pass
    fix = "Write a metric, one of >= <= > < = !=, and a number, as exact_match>=0.8."
    raise RefusedError(f"{text!r} is no condition", fix, "--metric")


def _root(registry: Registry, word: str | None) -> str | None:
    """The digest of what is here under that name, or the word itself, to be looked for in what steps have loaded."""
    try:
        return registry.resolve(word) if word else word
    except RegistryError:
        return word


def _newest(scores: list[Score]) -> dict[str, dict[str, float]]:
    """The newest value of each metric, by subject."""
    found: dict[str, dict[str, float]] = {}
    for score in scores:
        found.setdefault(score.subject, {}).setdefault(score.metric, score.value)
    return found
