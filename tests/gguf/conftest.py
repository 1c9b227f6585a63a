from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gguf.small_models import byte_level, write_model
from tuneforge import Facts, Gguf
from tuneforge.environments import environment_for, make
from tuneforge_gguf import ToGguf
from tuneforge_gguf.converter import fetch_converter
from tuneforge_gguf.export import export


@pytest.fixture(scope="session")
def converter(pytestconfig: pytest.Config) -> Path:
    """llama.cpp's converter, downloaded in the first run of all."""
    given = os.environ.get("TUNEFORGE_TEST_CACHE")
    cache = Path(given) if given else pytestconfig.cache.mkdir("llama.cpp")
    return fetch_converter(cache, print)


@pytest.fixture(scope="session")
def envs(pytestconfig: pytest.Config) -> Path:
    """The folder `envs` of a home in which llama-cpp-python's environment is kept from run to run."""
    given = os.environ.get("TUNEFORGE_TEST_CACHE")
    return (Path(given) if given else pytestconfig.cache.mkdir("llama.cpp")) / "envs"


@pytest.fixture(scope="session")
def quantizer(envs: Path) -> Iterator[None]:
    """llama-cpp-python, built as the core builds it for a step, in the first run of all; importable in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")  # a llama.cpp that is installed here would make it unnecessary
        needs = ToGguf(type="q4_k_m").requires({"model": [Facts(Gguf)]})
    environment = make(environment_for(needs, envs.parent, ToGguf.build), envs.parent, print)
    assert environment.folder is not None
    # Last: all else is taken from where the tests run.
    sys.path.append(str(next(environment.folder.glob("lib/python*/site-packages"))))
    yield
    sys.path.pop()


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama model of float32 weights with a tokenizer of GPT-2's kind."""
    return write_model(tmp_path_factory.mktemp("llama"), byte_level())


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama model whose rows are multiples of 256."""
    return write_model(tmp_path_factory.mktemp("wide"), byte_level(), hidden=256, intermediate=512)


@pytest.fixture(scope="session")
def whole(wide: Path, converter: Path, tmp_path_factory: pytest.TempPathFactory) -> Gguf:
    """That model as a GGUF file of float32."""
    folder = tmp_path_factory.mktemp("whole")
    export(wide, folder, "f32", converter, log=lambda _: None)
    return Gguf(folder, "1" * 64)
