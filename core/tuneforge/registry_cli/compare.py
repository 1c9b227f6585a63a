"""In what two artifacts differ, from their manifests, their lineage and the records of the runs that made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Any

from tuneforge_registry import Registry, RegistryError
from tuneforge_registry.lineage import Lineage

from .lineage import sources

_FROM_OUTSIDE = "format"
"""The stage whose steps make data of what lies outside."""


def compared(registry: Registry, a: str, b: str) -> dict[str, Any]:
    """What differs, as JSON; what is alike is left out."""
    sides = [registry.lineage(digest) for digest in (a, b)]
    steps = [_steps(side) for side in sides]
    records = [_record(registry, side.run) for side in sides]
    return {
        "a": _head(sides[0]),
        "b": _head(sides[1]),
        "recipe": list(_recipe(*records)),
        "steps": list(_differences("step", *({name: _method(at) for name, at in side.items()} for side in steps))),
        "parameters": list(_parameters(*steps)),
        "data": list(_differences("step", *(_data(side) for side in steps))),
        "packages": list(_packages(*records)),
        "scores": list(_differences("metric", *(_scores(registry, digest) for digest in (a, b)))),
        "files": list(_differences("path", *(_files(registry, digest) for digest in (a, b)))),
    }


def _head(at: Lineage) -> dict[str, Any]:
    return {"digest": at.digest, "kind": at.kind, "run": at.run, "step": at.step.get("name") if at.step else None}


def _steps(at: Lineage) -> dict[str, Lineage]:
    """Every step that went into it, by name; a repeat by the name of the step that it repeats."""
    found: dict[str, Lineage] = {}
    seen: set[str] = set()

    def visit(one: Lineage) -> None:
        if one.digest in seen:
            return
        seen.add(one.digest)
        for _, source in sources(one):
            visit(source)
        if one.step:
            name = str(one.step.get("of") or one.step.get("name"))
            found.setdefault(name, one)

    visit(at)
    return found


def _record(registry: Registry, run: str | None) -> dict[str, Any]:
    try:
        return registry.run(run) if run else {}
    except RegistryError:  # gone or damaged: the rest can be compared
        return {}


def _recipe(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    before, after = (
        [*str(record.get("file", "")).splitlines(), *(f"--set {setting}" for setting in record.get("settings", ()))]
        for record in (a, b)
    )
    yield from unified_diff(before, after, str(a.get("id")), str(b.get("id")), n=1, lineterm="")


def _method(at: Lineage) -> str:
    step = at.step or {}
    return f"{step.get('stage')}: {step.get('method')}, version {step.get('version')}, seed {step.get('seed')}"


def _parameters(a: Mapping[str, Lineage], b: Mapping[str, Lineage]) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys([*a, *b]):
        if name in a and name in b:
            options = [dict(_leaves((side[name].step or {}).get("config") or {})) for side in (a, b)]
            for row in _differences("option", *options):
                yield {"step": name} | row


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def _data(steps: Mapping[str, Lineage]) -> dict[str, Any]:
    return {
        name: {"digest": at.digest, "figures": dict(_leaves(at.step.get("metrics") or {}))}
        for name, at in steps.items()
        if at.step and at.step.get("stage") == _FROM_OUTSIDE
    }


def _packages(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    environments = [record.get("environments") or {} for record in (a, b)]
    for name in environments[0]:
        if name in environments[1]:
            for row in _differences("package", *(side[name] for side in environments)):
                yield {"environment": name} | row
    versions = [{"tuneforge": record.get("tuneforge")} for record in (a, b)]
    pythons = [{"python": (record.get("machine") or {}).get("python")} for record in (a, b)]
    for row in _differences("package", *(one | other for one, other in zip(versions, pythons, strict=True))):
        yield {"environment": "run"} | row


def _scores(registry: Registry, digest: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for score in registry.scores(digest):
        found.setdefault(score.metric, score.value)
    return found


def _files(registry: Registry, digest: str) -> dict[str, dict[str, Any]]:
    return {
        path: {"sha256": entry.sha256, "size": entry.size} for path, entry in registry.manifest(digest).files.items()
    }


def _differences(what: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name):
            yield {what: name, "a": a.get(name), "b": b.get(name)}
