"""Registries that are served, and the Hub's own client to ask them."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from huggingface_hub import HfApi
from starlette.types import Receive, Scope, Send

from tuneforge.registry_cli.serve import kinds_of
from tuneforge_registry import Registry
from tuneforge_registry_server import Terms, application

Serve = Callable[..., "Served"]


def safetensors(values: bytes = b"\0\0\x80\x3f") -> bytes:
    """A file of one tensor, F32, with those bytes."""
    header = {"weight": {"dtype": "F32", "shape": [len(values) // 4], "data_offsets": [0, len(values)]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


MODEL = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}',
    "model.safetensors": safetensors(),
    "tokenizer.json": b"{}",
    "nested/deep er/\xc3\xbc.txt".encode("latin-1").decode("utf-8"): b"hello",
}


@dataclass
class Served:
    """A registry, served on this machine by a thread of this process, over HTTP as anywhere."""

    registry: Registry
    url: str
    cache: Path
    lines: list[str] = field(default_factory=list)
    """What the server says of requests, when each is done."""
    begun: int = 0
    """How many requests have come."""
    told: int = 0
    hear: Callable[[str], None] = lambda line: None
    """Called with each line, before the server goes on."""

    def say(self, line: str) -> None:
        self.lines.append(line)
        self.hear(line)
        self.told += 1

    def api(self, token: str | bool = False) -> HfApi:
        return HfApi(endpoint=self.url, token=token)

    def put(self, name: str, files: Mapping[str, bytes], kind: str = "model", alias: str | None = None) -> str:
        with self.registry.workspace() as room:
            for path, content in files.items():
                (room / "out" / path).parent.mkdir(parents=True, exist_ok=True)
                (room / "out" / path).write_bytes(content)
            digest = self.registry.put(room / "out", kind)
        self.registry.tag(name, digest, alias)
        return digest

    def download(self, repo: str, path: str, **options: Any) -> bytes:
        options = {"cache_dir": self.cache, "token": False} | options
        return Path(self.api().hf_hub_download(repo, path, **options)).read_bytes()

    def snapshot(self, repo: str, **options: Any) -> dict[str, bytes]:
        options = {"cache_dir": self.cache, "token": False} | options
        return read(Path(self.api().snapshot_download(repo, **options)))

    def asked(self, words: str) -> list[str]:
        """The requests with these words, since the last time."""
        until(lambda: self.told >= self.begun)  # a line comes after its answer
        found = [line for line in self.lines if words in line]
        self.lines.clear()
        return found


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def until(found: Callable[[], object]) -> object:
    end = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return value


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    started: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(folder: Path | None = None, **terms: Any) -> Served:
        folder = folder or tmp_path_factory.mktemp("served")
        registry = Registry(folder / "home")
        served = Served(registry, "", folder / "cache")
        served_by = application(registry, kinds_of(registry), Terms(say=served.say, **terms))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            served.begun += 1
            await served_by(scope, receive, send)

        config = uvicorn.Config(app, port=0, http="h11", ws="none", lifespan="off", log_level="error", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        served.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        started.append((server, thread))
        return served

    yield start
    for server, _ in started:
        server.should_exit = server.force_exit = True
    for _, thread in started:
        thread.join()


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    return serve(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes files into a new folder and gives it."""
    count = iter(range(1000))

    def write(files: Mapping[str, bytes]) -> Path:
        made = tmp_path / f"folder-{next(count)}"
        for path, content in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_bytes(content)
        return made

    return write
