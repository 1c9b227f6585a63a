"""A default that changes gives another result under the same key, unless the method's version is raised.

Run as: python -m tests.architecture.test_defaults     to update the snapshot
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneforge.hints import options
from tuneforge.pages.methods import describe
from tuneforge.plugins import Plugins

SNAPSHOT = Path(__file__).with_name("defaults.json")


def defaults() -> dict[str, dict[str, Any]]:
    """Version and defaults of every method, as far as they count for keys."""
    plugins = Plugins()
    found = {}
    for method in plugins:
        page = describe(plugins, method)
        unkeyed = {
            ".".join(path)
            for path, info in options(method)
            if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("keyed") is False
        }
        found[f"{method.stage}.{method.name}"] = {
            "version": page["version"],
            "defaults": {
                " of ".join(filter(None, (option["name"], ", ".join(option["of"])))): "required"
                if option["required"]
                else option["default"]
                for option in page["options"]
                if option["name"] not in unkeyed
            },
        }
    loaded: dict[str, dict[str, Any]] = json.loads(json.dumps(found, default=str))
    return loaded


def changed(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> list[str]:
    """What is other than it was: of methods whose version is the same, and of those that came or went."""
    told = []
    for name in sorted(before.keys() | now.keys()):
        was, is_ = before.get(name), now.get(name)
        if was == is_:
            continue
        if was is None or is_ is None or was["version"] != is_["version"]:
            told.append(f"{name}: update the snapshot")
            continue
        for option in sorted(was["defaults"].keys() | is_["defaults"].keys()):
            if was["defaults"].get(option, "absent") != is_["defaults"].get(option, "absent"):
                told.append(f"{name}: {option} has another default: raise version or update the snapshot")
    return told


def test_a_changed_default_raises_the_version() -> None:
    assert changed(json.loads(SNAPSHOT.read_text(encoding="utf-8")), defaults()) == []


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"version": 1, "defaults": {"r": 8}}, []),
        ({"version": 1, "defaults": {"r": 9}}, ["a.b: r has another default: raise version or update the snapshot"]),
        (
            {"version": 1, "defaults": {"r": 8, "s": None}},
            ["a.b: s has another default: raise version or update the snapshot"],
        ),
        ({"version": 2, "defaults": {"r": 9}}, ["a.b: update the snapshot"]),
        (None, ["a.b: update the snapshot"]),
    ],
)
def test_what_the_snapshot_tells(now: dict[str, Any] | None, told: list[str]) -> None:
    assert changed({"a.b": {"version": 1, "defaults": {"r": 8}}}, {"a.b": now} if now else {}) == told


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(defaults(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
