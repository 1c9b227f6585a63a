"""Connections that break, clients and servers that are killed: again, and it is complete and correct."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.registry_server.conftest import MODEL, Serve, Served, until
from tests.registry_server.test_writing import batch
from tuneforge_registry import Registry

LARGE = random.Random(1).randbytes(12 << 20)
UPLOAD = """
import sys
from huggingface_hub import HfApi
url, folder = sys.argv[1:]
api = HfApi(endpoint=url, token=False)
api.create_repo("orders", exist_ok=True)
api.upload_folder(repo_id="_/orders", folder_path=folder, commit_message="the model")
"""


class Cutting:
    """A proxy that cuts a connection once that many bytes have come from the server; the next one it leaves alone."""

    def __init__(self, url: str, after: int) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._behind, self._after, self.cuts = (host, int(port)), after, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._behind)
            threading.Thread(target=self._pass, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, self._after), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, after: int | None) -> None:
        passed = 0
        try:
            while content := source.recv(1 << 16):
                target.sendall(content)
                passed += len(content)
                if after is not None and passed > after and not self.cuts:
                    self.cuts += 1
                    break
        except OSError:
            pass
        for end in (source, target):
            with closing(end):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


@pytest.fixture
def cutting(served: Served) -> Iterator[Cutting]:
    proxy = Cutting(served.url, 15 << 20)  # the client keeps what it has in pieces of 10 MB
    yield proxy
    proxy.close()


@pytest.mark.slow
def test_a_download_that_breaks_goes_on_where_it_ended(served: Served, cutting: Cutting) -> None:
    content = LARGE + LARGE[::-1]
    served.put("orders", {"large": content})
    served.url = cutting.url
    assert served.download("orders", "large") == content
    assert cutting.cuts == 1
    asked = served.asked(" GET /orders/resolve/")
    (rest,) = [line.split(" 206 ")[1] for line in asked if " 206 " in line]
    assert len(asked) == 2
    assert int(rest.split()[0]) == len(content) - 10 * 2**20, "the rest alone"


def test_an_upload_that_breaks_leaves_nothing(served: Served) -> None:
    served.put("orders", MODEL)
    address = batch(served, LARGE)["upload"]
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        path = address.removeprefix(served.url)
        head = f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(LARGE)}\r\n\r\n"
        connection.sendall(head.encode() + LARGE[: 5 << 20])
        part = until(lambda: next((served.registry.home / "tmp").glob("*/part"), None))
        until(lambda: part.stat().st_size > 0)
    until(lambda: not list((served.registry.home / "tmp").iterdir()))
    assert served.registry.gc(dry_run=True, older_than=timedelta(0)).garbage == ()
    assert batch(served, LARGE), "it is asked for again"


@pytest.mark.slow
@pytest.mark.parametrize("xet", [True, False])
def test_a_client_that_is_killed_while_it_uploads(serve: Serve, tmp_path: Path, xet: bool) -> None:
    served = serve(tmp_path)
    files = {**MODEL, "large": LARGE, "larger": LARGE + LARGE[::-1]}
    for path, content in files.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(content)
    # Within the line, so that nothing more is answered before: it would commit meanwhile.
    served.hear = lambda line: client.kill() if " 200 " in line and "/-/uploads/" in line else None
    client = upload(served.url, tmp_path, xet)
    assert client.wait() == -signal.SIGKILL
    served.hear = lambda line: None
    assert "orders" not in served.registry.names(), "killed too late to tell anything"
    assert upload(served.url, tmp_path, xet).wait() == 0
    assert served.snapshot("orders") == files
    assert served.registry.verify() == []
    served.registry.gc(dry_run=False, older_than=timedelta(0))
    assert not any((served.registry.home / "scratch").iterdir())
    assert served.snapshot("orders", force_download=True) == files


def upload(url: str, folder: Path, xet: bool) -> subprocess.Popen[bytes]:
    environment = os.environ | {"HF_HUB_DISABLE_XET": "0" if xet else "1", "HF_HOME": str(folder / "hf")}
    return subprocess.Popen([sys.executable, "-c", UPLOAD, url, str(folder / "folder")], env=environment)


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_is_uploaded_to(tmp_path: Path) -> None:
    """Three times at other moments; what was acknowledged is there, and in the end all of it."""
    files = {**MODEL, "large": LARGE, "larger": LARGE + LARGE[::-1]}
    for path, content in files.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(content)
    registry = Registry(tmp_path / "home")
    for number in range(3):
        server, url = command(tmp_path)
        client = upload(url, tmp_path, xet=bool(number % 2))
        until(lambda: (registry.home / "tmp").is_dir() and any((registry.home / "tmp").glob("*/*")))
        time.sleep(random.Random(number).uniform(0, 0.1))
        server.send_signal(signal.SIGKILL)
        server.wait()
        client.kill()
        client.wait()
        assert registry.verify() == []
    server, url = command(tmp_path)
    assert upload(url, tmp_path, xet=True).wait() == 0
    tree = registry.tree(registry.resolve("orders"))
    assert {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*") if path.is_file()} == files
    server.send_signal(signal.SIGINT)
    server.wait()
    registry.gc(dry_run=False, older_than=timedelta(0))
    assert registry.verify() == []
    for room in ("scratch", "tmp"):
        assert not any((registry.home / room).iterdir())


def command(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """`tuneforge registry serve`, and where."""
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tuneforge.cli",
            "--home",
            str(folder / "home"),
            "registry",
            "serve",
            "--port",
            "0",
            *options,
        ],
        stdout=subprocess.PIPE,
        text=True,
        # Where the tests themselves run in the background, an interrupt is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert server.stdout
    url = server.stdout.readline().split(" at ")[1].split(";")[0].split()[0]
    threading.Thread(target=server.stdout.read, daemon=True).start()
    socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))).close()  # it listens before it says so
    return server, url
