"""Whatever is sent: never an error of the server, nothing written outside, and a registry that is whole."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.registry_server.conftest import MODEL, safetensors
from tuneforge.registry_cli.serve import kinds_of
from tuneforge_registry import Registry
from tuneforge_registry_server import Terms, application


class Home:
    """A registry in a folder of its own, and its application, asked without a network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry(folder / "home")
        self.put("orders", MODEL, "model", alias="production")
        self.put("words", {"data.json": b"{}", "train-0.parquet": b"messages"}, "chat-data")
        self.told: Counter[int] = Counter()
        self.app = application(self.registry, kinds_of(self.registry), Terms(say=lambda line: None))

    def put(self, name: str, files: dict[str, bytes], kind: str, alias: str | None = None) -> None:
        with self.registry.workspace() as room:
            for path, content in files.items():
                (room / "out" / path).parent.mkdir(parents=True, exist_ok=True)
                (room / "out" / path).write_bytes(content)
            self.registry.tag(name, self.registry.put(room / "out", kind), alias)

    def ask(
        self, method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, bytes]:
        return asyncio.run(self._ask(method, path, query, headers, body))

    async def _ask(
        self, method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, bytes]:
        pieces = [body[: len(body) // 2], body[len(body) // 2 :]]
        status, answer = 0, b""

        async def receive() -> dict[str, Any]:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status, answer
            status = message.get("status", status)
            answer += message.get("body", b"")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", b"localhost"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await self.app(scope, receive, send)
        return status, answer

    def outside(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory() as folder:
        yield Home(Path(folder))


PARTS = """
    api models datasets orders words _ main v1 production resolve raw tree refs revision commits paths-info preupload
    commit branch tag xet-write-token repos create delete move orders.git info lfs objects batch - uploads whoami-v2
    validate-yaml config.json nested .. . %2e%2e %2F ..%2F..%2Fup %00 %ff % %zz ~ manifests v2 auth-check write verify
    shards v0 v999999999999999999999
"""
words = st.sampled_from([*PARTS.split(), "", "a" * 300, "0" * 40, "0" * 64])
segments = words | st.text(max_size=12).map(lambda text: quote(text, safe=""))
paths = st.lists(segments, max_size=9).map(lambda parts: "/" + "/".join(parts)) | st.binary(max_size=40).map(
    lambda raw: "/" + raw.decode("latin-1")
)
known = st.sampled_from(
    [
        "/api/models/orders/commit/main",
        "/api/models/orders/preupload/main",
        "/api/models/orders/paths-info/main",
        "/api/models/orders/branch/trial",
        "/api/models/orders/tag/main",
        "/api/repos/create",
        "/api/repos/delete",
        "/api/validate-yaml",
        "/orders.git/info/lfs/objects/batch",
        "/datasets/words.git/info/lfs/objects/batch",
        "/api/datasets/words/commit/main",
        "/orders/resolve/main/config.json",
        "/api/models",
        "/api/models/orders/tree/main/nested",
    ]
)
names = (
    st.sampled_from(
        ["config.json", "../up", "/up", "a/../../up", "a", "a/b", "model.safetensors", "x.pkl", "README.md", "", "."]
    )
    | st.text(max_size=20)
    | st.just("long/" * 300)
)
digests = st.sampled_from(
    [hashlib.sha256(content).hexdigest() for content in MODEL.values()] + ["0" * 64, "x", "../" * 8]
)
contents = st.sampled_from(
    [b"", b"{}", b"[]", safetensors(), safetensors()[:-1], b"\x80\x04.", b"---\na: [\n---", b"{" * 3000]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | names | digests,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
changes = st.fixed_dictionaries(
    {"key": st.sampled_from(["header", "file", "lfsFile", "deletedFile", "deletedFolder", "copyFile"]) | anything},
    optional={
        "value": st.fixed_dictionaries(
            {},
            optional={
                "path": names | anything,
                "content": contents.map(lambda raw: base64.b64encode(raw).decode()) | anything,
                "encoding": st.sampled_from(["base64", "utf-8"]) | anything,
                "oid": digests | anything,
                "algo": st.just("sha256") | anything,
                "size": st.integers(0, 100) | anything,
                "summary": anything,
                "parentCommit": st.just("0" * 40) | anything,
            },
        )
        | anything
    },
)
bodies = (
    st.lists(changes, max_size=4).map(lambda lines: b"\n".join(json.dumps(line).encode() for line in lines))
    | st.fixed_dictionaries(
        {},
        optional={
            "name": names | st.sampled_from(["orders", "other"]) | anything,
            "organization": anything,
            "type": st.sampled_from(["model", "dataset", "space"]) | anything,
            "operation": st.just("upload") | anything,
            "transfers": st.just(["basic"]) | anything,
            "objects": st.lists(st.fixed_dictionaries({"oid": digests | anything, "size": anything}), max_size=3)
            | anything,
            "files": st.lists(st.fixed_dictionaries({"path": names | anything, "size": anything}), max_size=3)
            | anything,
            "paths": st.lists(names, max_size=3) | anything,
            "tag": names | anything,
            "startingPoint": anything,
            "content": st.sampled_from(["---\na: [\n---", "---\na: &x [*x]\n---", "---\n- 1\n---", "---\na: 1\n---"])
            | anything,
        },
    ).map(lambda asked: json.dumps(asked).encode())
    | st.binary(max_size=60)
    | st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"null", b"\n\n\n"])
)
headers = st.lists(
    st.tuples(
        st.sampled_from(
            [b"range", b"if-range", b"if-none-match", b"content-type", b"content-length", b"authorization"]
        ),
        st.sampled_from(
            [b"bytes=0-", b"bytes=-1", b"bytes=9-1", b"bytes=a", b"bytes=0-1,3-4", b"bytes=99999999999999999999-"]
        )
        | st.sampled_from(
            [b"*", b'W/"a"', b"application/json", b"application/x-www-form-urlencoded", b"-1", b"Bearer 1.2"]
        )
        | st.binary(max_size=20),
    ),
    max_size=3,
)
queries = st.sampled_from(
    [b"", b"recursive=1&expand=true", b"cursor=9&limit=0", b"create_pr=1", b"full=1&filter=a,b&search=%ff"]
) | (st.binary(max_size=30))


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "X"]), paths | known, queries, headers, bodies)
def test_no_request_breaks_the_server(
    home: Home, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    status, answer = home.ask(method, path.encode("latin-1", "replace"), query, headers, body)
    assert 200 <= status < 500, answer
    home.told[status] += 1


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(known, bodies)
def test_no_change_breaks_the_registry(home: Home, path: str, body: bytes) -> None:
    status, answer = home.ask("POST", path.encode(), b"", [], body)
    assert 200 <= status < 500, answer
    home.told[status] += 1


@pytest.mark.slow
def test_afterwards_the_registry_is_whole_and_nothing_lies_outside(home: Home) -> None:
    assert {200, 400, 404} <= home.told.keys(), "what was sent was not all nonsense"
    assert home.registry.verify() == []
    assert home.outside() == ["home"]
    allowed = {"blobs", "index.sqlite", "locks", "manifests", "refs", "repositories", "scratch", "tmp", "trees"}
    assert {path.name for path in home.registry.home.iterdir()} <= allowed
    assert list((home.registry.home / "tmp").iterdir()) == []
    digests = set(home.registry.names()["orders"].versions.values())
    assert all(home.registry.tree(digest).is_dir() for digest in digests)
