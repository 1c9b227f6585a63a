"""What the whole suite shares: a note of every option that a method's `run` reads while the tests go by."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tuneforge.hints import blocks_in, tag
from tuneforge.launch.hardware import hardware
from tuneforge.plugins import Plugins
from tuneforge.stages import Config

_read: set[tuple[str, str]] = set()
_selected: set[Path] = set()


def pytest_configure() -> None:
    # A test trains on one thread: there are as many tests at once as processors.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _selected.update(item.path for item in items)
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
def _note_what_runs_read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Counts what `prepare` and `run` read: an option that only `check` looks at is not read."""
    with pytest.MonkeyPatch.context() as patch:
        for method in Plugins():
            patch.setattr(method, "run", _noting(method.run))
            if method.prepare is not None:
                patch.setattr(method, "prepare", _noting(method.prepare))
        yield
    # And what was read by the steps that tests had carried out in other processes, as their records say.
    for path in tmp_path_factory.getbasetemp().rglob("runs/*.json"):
        text = path.read_text(encoding="utf-8")
        if '"reads"' in text:  # the registry's own tests write other records, and damage some
            for step in json.loads(text)["steps"]:
                _read.update((block, option) for block, option in step.get("reads", ()))


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


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of tests hands over what it has seen (pytest-xdist)."""
    _read.update(map(tuple, node.workeroutput.get("options_read", ())))
    _selected.update(map(Path, node.workeroutput.get("selected", ())))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """No option that nothing reads: the session fails if one was left, when the whole suite has gone by and passed."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output.update(options_read=sorted(_read), selected=sorted(map(str, _selected)))
    elif session.exitstatus == pytest.ExitCode.OK and _whole(session.config) and unread():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _whole(config) and not terminalreporter.stats.keys() & {"failed", "error"}:
        for block, option in unread():
            terminalreporter.write_line(f"UNREAD {block}.{option}: set, validated, documented, and read by no run")


def _whole(config: pytest.Config) -> bool:
    return "slow" not in config.option.markexpr and _selected == set(Path(__file__).parent.rglob("test_*.py"))


def unread() -> list[tuple[str, str]]:
    """(block, option) of what no run has read so far."""
    return sorted({option for method in Plugins() for option in _options(method)} - _read)


def _options(block: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, info in block.model_fields.items():
        # The word that chooses a block is read when it is chosen.
        if name != "type" or not tag(block):
            yield f"{block.__module__}.{block.__qualname__}", name
        for inner in blocks_in(info.annotation):
            yield from _options(inner)
