"""llama.cpp's own download (`-hf team/model:Q8_0`), by the requests it makes and what it wants of each answer.

Source: common/hf-cache.cpp and common/download.cpp of llama.cpp; for its releases of 2025, common/arg.cpp. The
prebuilt runtime that the tests have is built without the download, so its requests are made by hand.
"""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import pytest

from tests.registry_server.conftest import Serve, Served
from tests.registry_server.test_reading import get
from tuneforge_registry_server.gguf import chosen

AGENT = {"User-Agent": "llama-cpp/b6000-abcdef", "Accept": "application/json"}
CONTENT = b"GGUF" + bytes(range(256)) * 20


@pytest.fixture(scope="module")
def shop(serve: Serve) -> Served:
    shop = serve()
    files = {
        "orders-Q4_K_M.gguf": CONTENT,
        "orders-q8_0.gguf": CONTENT[::-1],
        "big-F16-00001-of-00002.gguf": b"GGUF1",
        "big-F16-00002-of-00002.gguf": b"GGUF2",
        "mmproj-orders.gguf": b"GGUF",
    }
    shop.put("orders", files, kind="gguf")
    return shop


def asked(url: str) -> Any:
    status, _, body = get(url, **AGENT)
    assert status == 200
    return json.loads(body)


def test_the_download_of_today(shop: Served) -> None:
    endpoint, repo = shop.url + "/", "_/orders"
    assert re.fullmatch(r"\w+/\w+", repo), "two parts, each beginning and ending with a letter, digit or _"
    (commit,) = [
        branch["targetCommit"]
        for branch in asked(f"{endpoint}api/models/{repo}/refs")["branches"]
        if branch["name"] == "main"
    ]
    assert re.fullmatch("[0-9a-f]{40}", commit)
    files = asked(f"{endpoint}api/models/{repo}/tree/{commit}?recursive=true")
    (file,) = [file for file in files if file["type"] == "file" and file["path"] == "orders-Q4_K_M.gguf"]
    assert re.fullmatch("[0-9a-f]{64}", file["lfs"]["oid"])
    url = f"{endpoint}{repo}/resolve/{commit}/{file['path']}"
    with urllib.request.urlopen(urllib.request.Request(url, headers=AGENT, method="HEAD")) as head:
        assert (head.status, int(head.headers["Content-Length"])) == (200, len(CONTENT))
        assert head.headers["Accept-Ranges"] == "bytes"
        assert head.headers["ETag"] == f'"{file["lfs"]["oid"]}"'
    assert get(url, **AGENT)[2] == CONTENT
    # What was broken off goes on where it ended; anything but 206 would be an error there.
    status, _, rest = get(url, Range="bytes=1000-", **AGENT)
    assert (status, rest) == (206, CONTENT[1000:])


def test_the_download_of_2025(shop: Served) -> None:
    for tag, path in (
        ("latest", "orders-Q4_K_M.gguf"),
        ("Q8_0", "orders-q8_0.gguf"),
        ("F16", "big-F16-00001-of-00002.gguf"),
    ):
        told = asked(f"{shop.url}/v2/_/orders/manifests/{tag}")
        assert told["ggufFile"]["rfilename"] == path
        assert told["mmprojFile"]["rfilename"] == "mmproj-orders.gguf"
        assert get(f"{shop.url}/_/orders/resolve/main/{path}", **AGENT)[0] == 200
    assert get(f"{shop.url}/v2/_/orders/manifests/Q2_K", **AGENT)[0] == 404
    assert get(f"{shop.url}/v2/_/nothing/manifests/latest", **AGENT)[0] == 404


def test_which_file_is_meant() -> None:
    assert chosen(["b.gguf", "a.gguf", "mmproj-a.gguf"], "") == "b.gguf"
    assert chosen(["a-f16.gguf", "a-q8_0.gguf"], "") == "a-q8_0.gguf"
    assert chosen(["a-00002-of-00002.gguf", "a-00001-of-00002.gguf"], "") == "a-00001-of-00002.gguf"
    assert chosen(["README.md", "imatrix.gguf"], "") is None
    assert chosen(["a-q8_0.gguf"], "(") is None
