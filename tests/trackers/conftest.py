"""A bench of toy methods, and a run of them with figures, scores and a failure to track."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.bench import Bench, new

RECIPE = """name: roses
steps:
  words: {format: split, with: {path: text.txt, clean: {lower: true}}}
  bag: {train: patient, words: words, with: {parts: 4}}
  counts: {train: count, data: [words], with: {top: 2}}
  grades: {evaluate: grade, bags: [counts]}
  doom: {train: doom, words: words, with: {how: refuse}}
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "MLFLOW_TRACKING_URI", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return new(tmp_path)
