"""Uploads among the operations that are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry.test_faults import kill_and_look

PROGRAM = "tests.registry_server.faults"


@pytest.mark.slow
def test_nothing_committed_is_lost_by_kill_9_in_uploads_too(tmp_path: Path) -> None:
    kill_and_look(tmp_path, 20, program=PROGRAM)


@pytest.mark.whole
def test_nothing_committed_is_lost_by_200_kills_in_uploads_too(tmp_path: Path) -> None:
    assert kill_and_look(tmp_path, 200, program=PROGRAM)["upload"] >= 20
