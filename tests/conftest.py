"""What the whole suite shares: a note of every option that a method's `run` reads while the tests go by."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tuneforge.launch import hardware
from tuneforge.plugins import Plugins
from tuneforge.stages import Config

LAST = "test_every_option_is_read"
_read: set[tuple[str, str]] = set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.name == LAST)
    if any(item.get_closest_marker("gpu") for item in items) and not hardware().gpus:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip("there is no GPU"))


@pytest.fixture(scope="session", autouse=True)
def _no_fsync() -> Iterator[None]:
    """Only a power cut can tell whether a file was synced, and on a busy disk it takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _note_what_runs_read() -> Iterator[None]:
    """Counts what `prepare` and `run` read: an option that only `check` looks at is not read."""
    with pytest.MonkeyPatch.context() as patch:
        for method in Plugins():
            patch.setattr(method, "run", _noting(method.run))
            if method.prepare is not None:
                patch.setattr(method, "prepare", _noting(method.prepare))
        yield


def _noting(run: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(run)
    def noting(*arguments: Any, **inputs: Any) -> None:
        before = set(Config.reads)
        Config.reads.clear()
        try:
            run(*arguments, **inputs)
        finally:
            _read.update(Config.reads)
            Config.reads.update(before)

    return noting


@pytest.fixture
def options_read(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> set[tuple[str, str]]:
    """(block, option) of all that was read: here, and by the steps that tests had carried out, as their records say."""
    selected = {Path(item.path) for item in request.session.items}
    if selected != set(Path(__file__).parent.rglob("test_*.py")) or "slow" in request.config.option.markexpr:
        pytest.skip("only the whole suite reads every option")
    found = set(_read)
    for path in tmp_path_factory.getbasetemp().rglob("runs/*.json"):
        text = path.read_text(encoding="utf-8")
        if '"reads"' in text:  # the registry's own tests write other records, and damage some
            for step in json.loads(text)["steps"]:
                found.update((block, option) for block, option in step.get("reads", ()))
    return found
