"""Run records and what is read from them: who made an artifact, and of what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tuneforge_registry import Registry, RegistryError, runs

Put = Callable[..., str]


def step(name: str, digest: str, status: str = "done", **inputs: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "stage": "train",
        "method": "sft",
        "key": f"key-of-{name}",
        "config": {"r": 16},
        "digest": digest,
        "kind": "model",
        "status": status,
        "inputs": {parameter: list(digests) for parameter, digests in inputs.items()},
    }


def test_a_record_comes_back_as_written_and_can_be_replaced(registry: Registry) -> None:
    record = {"started": "2026-01-01T00:00:00Z", "recipe": "ünï", "nested": {"loss": [0.5, None]}}
    registry.write_run("r1", record)
    assert registry.run("r1") == record
    registry.write_run("r1", {"steps": []})
    assert registry.run("r1") == {"steps": []}
    folder = registry.run_folder("r1")
    (folder / "sft.log").write_text("log")
    assert folder == registry.home / "runs" / "r1"
    assert list(registry.runs()) == ["r1"]


def test_runs_come_newest_first(registry: Registry) -> None:
    for run_id, started in (("b", "2026-01-02"), ("a", "2026-01-03"), ("d", "2026-01-01"), ("c", "2026-01-01")):
        registry.write_run(run_id, {"started": started})
    assert list(registry.runs().items()) == [
        ("a", {"started": "2026-01-03"}),
        ("b", {"started": "2026-01-02"}),
        ("d", {"started": "2026-01-01"}),
        ("c", {"started": "2026-01-01"}),
    ]


def test_a_run_that_is_not_there_or_damaged(registry: Registry) -> None:
    registry.write_run("good", {})
    (registry.home / "runs" / "bad.json").write_text("{")
    with pytest.raises(RegistryError, match="no run absent"):
        registry.run("absent")
    with pytest.raises(RegistryError, match=r"bad\.json is damaged"):
        registry.run("bad")
    assert list(registry.runs()) == ["good"]
    with pytest.raises(RegistryError, match="run id"):
        registry.write_run("good.json", {})


def test_made_by_follows_records_as_they_change(registry: Registry, put: Put) -> None:
    model, other = put("one"), put("two")
    registry.write_run("r1", {"started": "1", "steps": [step("base", model), step("sft", other)]})
    registry.write_run("r2", {"started": "2", "steps": [step("a", model, "cached"), step("b", model)]})
    registry.write_run("r3", {"started": "3", "steps": [{"name": "failed"}, "nonsense", {"digest": None}]})
    assert registry.made_by(model) == [("r2", "a"), ("r2", "b"), ("r1", "base")]
    registry.write_run("r2", {"started": "2", "steps": []})
    assert registry.made_by(model) == [("r1", "base")]
    (registry.home / "runs" / "r1.json").unlink()
    assert registry.made_by(model) == []


def test_lineage_follows_inputs_and_bases(registry: Registry, put: Put) -> None:
    data, base = put("data", kind="chat-data"), put("base")
    adapter = put("adapter", kind="adapter", base=base)
    merged = put("merged")
    steps = [
        step("chats", data),
        step("sft", adapter, model=[base], data=[data]),
        step("merged", merged, models=[adapter]),
    ]
    registry.write_run("r1", {"started": "1", "steps": steps})
    tree = registry.lineage(merged)
    assert (tree.digest, tree.kind, tree.run, tree.base) == (merged, "model", "r1", None)
    assert tree.step is not None
    assert (tree.step["stage"], tree.step["method"], tree.step["config"]) == ("train", "sft", {"r": 16})
    (sft,) = tree.inputs["models"]
    assert (sft.digest, sft.kind) == (adapter, "adapter")
    assert sft.base is None, "its base is among its inputs"
    assert [source.digest for source in sft.inputs["model"]] == [base]
    assert sft.inputs["data"][0].step == step("chats", data)
    assert (sft.inputs["model"][0].step, sft.inputs["model"][0].run) == (None, None)

    alone = put("alone", kind="adapter", base=adapter)
    lineage = registry.lineage(alone)
    assert lineage.step is None
    assert lineage.base == sft


def test_lineage_outlives_the_artifact(registry: Registry, put: Put) -> None:
    data, model = put("data"), put("model")
    registry.write_run("r1", {"steps": [step("sft", model, data=[data])]})
    for digest in (data, model):
        (registry.home / "manifests" / f"{digest}.json").unlink()
    lineage = registry.lineage(model)
    assert lineage.kind == "model"
    assert [(source.digest, source.kind) for source in lineage.inputs["data"]] == [(data, None)]


def test_lineage_tells_the_run_that_made_it_not_one_that_found_it_cached(registry: Registry, put: Put) -> None:
    model = put("model")
    registry.write_run("r1", {"started": "1", "steps": [step("sft", model)]})
    registry.write_run("r2", {"started": "2", "steps": [step("sft", model, "cached")]})
    assert registry.lineage(model).run == "r1"


def test_a_step_that_gave_back_its_input_does_not_trap_lineage(registry: Registry, put: Put) -> None:
    data, first, second = put("data"), put("first"), put("second")
    steps = [step("made", first, data=[data]), step("same", first, data=[first])]
    steps += [step("forth", second, data=[first]), step("back", first, data=[second])]
    registry.write_run("r1", {"steps": steps})
    lineage = registry.lineage(second)
    assert lineage.step == step("forth", second, data=[first])
    assert lineage.inputs["data"][0].step == step("made", first, data=[data])
    registry.write_run("r1", {"steps": steps[1:]})
    assert registry.lineage(second).inputs["data"][0].step is None


def test_a_run_that_was_killed_is_told_as_interrupted(registry: Registry) -> None:
    for run_id, status in (("lives", "running"), ("killed", "running"), ("ended", "done")):
        registry.write_run(run_id, {"started": "1", "status": status})
    with registry.run_lock("lives"), registry.run_lock("killed"):
        assert {run_id: record["status"] for run_id, record in registry.runs().items()} == {
            "lives": "running",
            "killed": "running",
            "ended": "done",
        }
    with registry.run_lock("lives"):
        assert [registry.run(name)["status"] for name in ("lives", "killed", "ended")] == [
            "running",
            "interrupted",
            "done",
        ]
        assert registry.runs()["killed"]["status"] == "interrupted"


def test_a_run_that_ends_while_it_is_read_is_not_interrupted(registry: Registry) -> None:
    registry.write_run("r1", {"status": "running", "steps": []})
    stale = registry.run("r1") | {"status": "running"}
    registry.write_run("r1", {"status": "done", "steps": []})
    assert runs.now(registry.home, "r1", stale)["status"] == "done"


def test_a_lineage_may_be_as_long_as_it_likes(registry: Registry, put: Put) -> None:
    digests = [f"{number:064x}" for number in range(1200)]
    steps = [
        {"name": f"s{number}", "digest": digest, "inputs": {"model": [digests[number - 1]] if number else []}}
        for number, digest in enumerate(digests)
    ]
    registry.write_run("r1", {"started": "1", "steps": steps})
    at, length = registry.lineage(digests[-1]), 1
    while at.inputs.get("model"):
        (at,), length = at.inputs["model"], length + 1
    assert (length, at.digest) == (1200, digests[0])
