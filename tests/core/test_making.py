"""Environments that are made by somebody who dies: never half of one is used, and never do two installers meet."""

from __future__ import annotations

import os
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
import uv

from tests.crashes.power import watched
from tuneforge import environments
from tuneforge.environments import Environment, environment_for, make
from tuneforge.errors import StepError

SLOW_UV = """#!/bin/sh
echo "begin $1" >> "$UV_LOG"
test "$1" = venv && mkdir "$5" && sleep "$UV_PAUSE"
echo "end $1" >> "$UV_LOG"
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What an installer that installs nothing writes down."""
    program = tmp_path / "uv"
    program.write_text(SLOW_UV)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(uv, "find_uv_bin", lambda: str(program))
    monkeypatch.setenv("UV_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("UV_PAUSE", "0")
    return tmp_path / "log"


def environment(home: Path) -> Environment:
    lock = home / "envs" / "locks" / "lock.txt"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("toolz==1.0.0\n")
    return Environment(("toolz",), ("toolz",), lock)


def test_an_installer_that_outlives_its_run_is_waited_for(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = environment(tmp_path / "home")
    maker = os.fork()
    if maker == 0:
        os.environ["UV_PAUSE"] = "1"
        make(wanted, tmp_path / "home", lambda text: None)
        os._exit(0)
    while not log.exists():
        time.sleep(0.01)
    os.kill(maker, signal.SIGKILL)
    os.waitpid(maker, 0)
    made = make(wanted, tmp_path / "home", lambda text: None)
    assert made.ready
    assert log.read_text().split("\n")[:4] == ["begin venv", "end venv", "begin venv", "end venv"]


def test_an_environment_is_on_disk_before_it_counts_as_whole(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    wanted = environment(tmp_path / "home")
    folder = environments._folder(wanted.lock or tmp_path, tmp_path / "home")
    monkeypatch.setattr(
        os, "sync", lambda: synced.append((folder / "lent").exists() and not (folder / ".whole").exists())
    )
    assert make(wanted, tmp_path / "home", lambda text: None).ready
    assert synced == [True]


def test_a_lock_is_on_disk_before_it_counts_as_resolved(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one would stand for an environment without packages, for good."""
    monkeypatch.setattr(
        environments, "_uv", lambda arguments, log: Path(arguments[arguments.index("-o") + 1]).write_text("toolz==1\n")
    )
    with watched(monkeypatch, tmp_path) as disk:
        environments._resolve(("toolz",), tmp_path / "lock.txt", lambda text: None)
        assert (tmp_path / "lock.txt").read_text() == "toolz==1\n"
    assert disk.hollow == []


def test_how_a_package_is_built_is_part_of_what_an_environment_is(tmp_path: Path) -> None:
    plain = environment_for(["toolz==0.0.1"], tmp_path)
    assert plain.lock is not None
    plain.lock.parent.mkdir(parents=True)
    plain.lock.write_text("toolz==0.0.1\n")
    settings = ("toolz:fast=yes", "another:fast=yes")
    built, other = (environment_for(["toolz==0.0.1"], tmp_path, build) for build in (settings, ("toolz:fast=no",)))
    assert built.build == ("toolz:fast=yes",), "of a package that is not asked for it makes no difference"
    assert len({environment_for(["toolz==0.0.1"], tmp_path).folder, built.folder, other.folder}) == 3
    assert built.lock == plain.lock


COMPILING_UV = """#!/bin/sh
echo "$@" >> "$UV_LOG"
test "$1" = venv && mkdir "$5" && exit
echo "DEBUG Found compiler"
echo "DEBUG [1/3] c++ a.cpp"
echo "DEBUG [2/3] c++ b.cpp"
echo "DEBUG [3/3] c++ -o a"
echo " + toolz==1.0.0"
"""


def test_a_compilation_tells_how_far_it_is(tmp_path: Path, log: Path) -> None:
    (tmp_path / "uv").write_text(COMPILING_UV)
    said: list[str] = []
    wanted = replace(environment(tmp_path / "home"), build=("toolz:fast=yes", "toolz:flags=-O1 -g"))
    assert make(wanted, tmp_path / "home", said.append).ready
    assert said[1:] == ["compiling: 1 of 3", "compiling: 3 of 3", " + toolz==1.0.0"]
    assert "--config-settings-package toolz:fast=yes --config-settings-package toolz:flags=-O1 -g" in log.read_text()


FAILING_UV = """#!/bin/sh
echo "$@" >> "$UV_LOG"
echo "  x $UV_SAYS"
exit 1
"""


@pytest.mark.parametrize(
    ("says", "tries"), [("No solution found when resolving dependencies:", 2), ("Failed to fetch: `toolz`", 1)]
)
def test_torch_is_let_go_only_where_nothing_fits_it(
    says: str, tries: int, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another torch is gigabytes, and may not fit the machine: an index that did not answer is no reason for it."""
    (tmp_path / "uv").write_text(FAILING_UV)
    monkeypatch.setenv("UV_SAYS", says)
    monkeypatch.setattr(environments, "_installed", lambda name: "2.13.0+cpu")
    with pytest.raises(StepError, match=says.partition(":")[0]):
        environments._resolve(("toolz",), tmp_path / "lock.txt", lambda text: None)
    assert log.read_text().count("pip compile") == tries
