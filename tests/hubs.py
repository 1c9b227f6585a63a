"""`tuneforge registry serve` as another process, and the Hub's own client in this one asking it: real HTTP."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

WRITE, READ = "hf_" + "w" * 34, "hf_" + "r" * 34


@dataclass(repr=False)
class Served:
    """A registry that is served, with a token to write and one to read. `lines` has a line for every request."""

    home: Path
    process: subprocess.Popen[str]
    url: str
    lines: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """From now on, nothing has been asked yet."""
        self._catch_up()
        self.lines.clear()

    def asked(self, *words: str) -> list[str]:
        """The requests in whose lines all the words stand."""
        self._catch_up()
        return [line for line in self.lines if all(word in line for word in words)]

    @property
    def sent(self) -> list[str]:
        """Requests that brought content."""
        return self.asked("PUT ") + self.asked("/xorbs/") + self.asked("/commit/", "POST ")

    def _catch_up(self) -> None:
        """Waits until the lines of all requests that were answered are here: until that of a last one is."""
        mark = f"/{secrets.token_hex(8)}"
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{self.url}{mark}", timeout=30)
        while not any(mark in line for line in self.lines):
            assert self.process.poll() is None, "the server has ended"
            time.sleep(0.002)

    def __repr__(self) -> str:
        return "".join(self.lines)

    def end(self) -> None:
        self.process.kill()  # it would wait for clients that keep their connections
        self.process.wait(timeout=30)


def serve(home: Path, *options: str, tokens: bool = True) -> Served:
    """Starts a server on a free port; with tokens, it asks for one."""
    home.mkdir(parents=True, exist_ok=True)
    if tokens:
        file = home.parent / f"{home.name}-tokens"
        file.write_text(f"write {WRITE} writer\nread {READ} reader\n")
        options = (*options, "--tokens", str(file))
    process = subprocess.Popen(
        [sys.executable, "-m", "tuneforge.cli", "--home", str(home), "registry", "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"HF_ENDPOINT=(\S+)", line):
            served = Served(home, process, found[1])
            while not _answers(served.url):
                assert process.poll() is None, f"the server ended: {said}"
                time.sleep(0.01)
            threading.Thread(target=served.lines.extend, args=(process.stdout,), daemon=True).start()
            return served
    raise AssertionError(f"the server ended: {said}")


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=30)
    except urllib.error.HTTPError:  # it asks for a token, and so is there
        return True
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests: each takes names of its own."""
    started = serve(tmp_path_factory.mktemp("served") / "home")
    yield started
    started.end()


def point(patch: pytest.MonkeyPatch, url: str, cache: Path, token: str | None = WRITE) -> None:
    """Has this process's client ask a server, as HF_ENDPOINT, HF_HUB_CACHE and HF_TOKEN do in a new process."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    patch.delenv("HF_TOKEN", raising=False)
    if token:
        patch.setenv("HF_TOKEN", token)


@pytest.fixture
def hub(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Served:
    """The server, with this process's client asking it, and nothing asked yet."""
    point(monkeypatch, served.url, tmp_path / "cache")
    served.forget()
    return served
