"""What can be asked of the index: names, scores, what was made of what."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tuneforge_registry import Registry, RegistryError, Wanted

Put = Callable[..., str]


def step(name: str, digest: str, config: Any = None, stage: str = "train", **inputs: list[str]) -> dict[str, Any]:
    return {"name": name, "digest": digest, "stage": stage, "config": config or {}, "inputs": inputs}


@pytest.fixture
def made(registry: Registry, put: Put) -> dict[str, str]:
    """A base and data from outside, an adapter of both, a model merged of it, a report; and a stranger."""
    found = {name: put(name) for name in ("base", "merged", "stranger")}
    found["data"] = put("data", kind="chat-data")
    found["adapter"] = put("adapter", kind="adapter", base=found["base"])
    figures = {found["adapter"]: {"exact": 0.5, "loss": 2}, found["base"]: {"exact": 0.1, "note": "x"}}
    report = {"subjects": list(figures), "passed": False, "scores": figures}
    found["report"] = put({"report.json": json.dumps(report).encode()}, kind="report")
    steps = [
        step("base", found["base"], {"repo": "org/tiny", "revision": "0" * 40}, "load_model"),
        step("data", found["data"], {"path": "chats[1].jsonl@0123456789ab"}, "format"),
        step("sft", found["adapter"], {"r": 4}, model=[found["base"]], data=[found["data"]]),
        step("merged", found["merged"], {}, "merge", model=[found["adapter"]]),
        step("scores", found["report"], {}, "evaluate", models=[found["adapter"], found["base"]]),
    ]
    registry.write_run("r1", {"started": "1", "steps": steps})
    return found


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), {"base", "merged", "stranger", "data", "adapter", "report"}),
        (Wanted(kind="adapter"), {"adapter"}),
        (Wanted(name="team/*"), {"adapter", "merged"}),
        (Wanted(tag="good"), {"adapter"}),
        (Wanted(tag="goo"), set()),
        (Wanted(metrics=(("exact", ">=", 0.5),)), {"adapter"}),
        (Wanted(metrics=(("exact", "<", 0.5),)), {"base"}),
        (Wanted(metrics=(("exact", ">", 0), ("loss", "=", 2))), {"adapter"}),
        (Wanted(metrics=(("note", "!=", 0),)), set()),
        (Wanted(base="org/tiny"), {"adapter", "merged", "report"}),
        (Wanted(base="org/tin"), set()),
        (Wanted(data="chats[1].jsonl"), {"adapter", "merged", "report"}),
        (Wanted(data="org/tiny"), set()),
        (Wanted(base="org/tiny", kind="model"), {"merged"}),
    ],
)
def test_what_is_wanted_is_found(registry: Registry, made: dict[str, str], wanted: Wanted, found: set[str]) -> None:
    registry.tag("team/bot", made["adapter"])
    registry.tag("team/other", made["merged"])
    registry.tag("bot", made["base"])
    registry.describe("team/bot", 1, ["good"])
    digests = {stored.digest for stored in registry.artifacts(wanted)}
    assert {name for name, digest in made.items() if digest in digests} == found


def test_what_was_made_of_something_is_found_by_its_digest(registry: Registry, made: dict[str, str]) -> None:
    below = {stored.digest for stored in registry.artifacts(Wanted(data=made["data"]))}
    assert below == {made["adapter"], made["merged"], made["report"]}
    assert registry.users(made["adapter"]) == sorted([made["merged"], made["report"]])
    assert registry.makers()[made["merged"]] == ("r1", "merged")


def test_scores_are_those_that_reports_give(registry: Registry, put: Put, made: dict[str, str]) -> None:
    figures = [(score.report, score.metric, score.value, score.passed) for score in registry.scores(made["adapter"])]
    assert figures == [(made["report"], "exact", 0.5, False), (made["report"], "loss", 2.0, False)]
    for broken in (b"[", b"[]", b"{}", b'{"scores": {"x": 3}}', b'{"scores": {"x": {"y": 1e999}}}'):
        put({"report.json": broken}, kind="report")
    assert {score.report for score in registry.scores()} == {made["report"]}


def test_names_are_seen_as_they_change(registry: Registry, put: Put) -> None:
    first, second = put("one"), put("two")
    for _ in range(3):  # as quickly as it goes: a folder may change twice in what its time can tell apart
        for digest, alias in ((first, "a"), (second, "b"), (first, "b")):
            for name in ("bot", "team/bot", "team/other"):
                registry.tag(name, digest, alias)
                newest = [version for version in registry.versions() if version.name == name][-1]
                assert (newest.digest, alias in newest.aliases) == (digest, True)
    os.utime(registry.home / "refs", (1, 1))
    for folder in ("bot", "team", "team/bot", "team/other"):
        os.utime(registry.home / "refs" / folder, (1, 1))
    assert len(registry.versions()) == 21
    registry.describe("team/bot", 2, note="hm")
    assert [version.note for version in registry.versions() if version.note] == ["hm"]
    assert registry.called()[first] == [str(version) for version in registry.versions(first)]
    registry.remove_name("team/bot")
    registry.tag("team/new", first)
    assert {version.name for version in registry.versions()} == {"bot", "team/other", "team/new"}
    assert [str(version) for version in registry.versions(second) if version.name == "bot"] == [
        f"bot@v{number}" for number in (2, 4, 6)
    ]


def test_an_artifact_is_removed_with_what_is_its_alone(registry: Registry, put: Put) -> None:
    lost = put({"a": b"shared", "b": b"alone"})
    kept = put({"a": b"shared", "c": b"other"})
    registry.remember("key", lost)
    registry.tree(lost)
    told = registry.remove_artifact(lost, dry_run=True)
    assert (told.bytes, told.bases, told.names, told.running) == (5, (), (), False)
    assert lost in registry
    registry.remove_artifact(lost, dry_run=False)
    assert lost not in registry
    assert registry.result_of("key") is None
    assert registry.verify() == []
    assert (registry.tree(kept) / "a").read_bytes() == b"shared"
    assert registry.gc(dry_run=True).garbage == ()


def test_what_is_needed_is_not_removed(registry: Registry, put: Put) -> None:
    base = put("base")
    adapter = put("adapter", kind="adapter", base=base)
    registry.tag("bot", adapter)
    for digest, why in ((base, f"{adapter[:12]} sits on it"), (adapter, "it is bot@v1")):
        with pytest.raises(RegistryError, match=why):
            registry.remove_artifact(digest, dry_run=False)
    registry.remove_name("bot")
    with registry.run_lock("r1"):
        registry.remove_artifact(adapter, dry_run=True)
        os.utime(registry.home / "manifests" / f"{base}.json", (1, 1))
        os.utime(registry.home / "manifests" / f"{adapter}.json")
        with pytest.raises(RegistryError, match="runs now has used it"):
            registry.remove_artifact(adapter, dry_run=False)
        assert not registry.remove_artifact(base, dry_run=True).running
    registry.remove_artifact(adapter, dry_run=False)
    registry.remove_artifact(base, dry_run=False)
    assert registry.artifacts() == []
