from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.gguf.small_models import byte_level, write_model
from tuneforge_gguf.converter import fetch_converter


@pytest.fixture(scope="session")
def converter(pytestconfig: pytest.Config) -> Path:
    """llama.cpp's converter, downloaded in the first run of all."""
    given = os.environ.get("TUNEFORGE_TEST_CACHE")
    cache = Path(given) if given else pytestconfig.cache.mkdir("llama.cpp")
    return fetch_converter(cache, print)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama model of float32 weights with a tokenizer of GPT-2's kind."""
    return write_model(tmp_path_factory.mktemp("llama"), byte_level())
