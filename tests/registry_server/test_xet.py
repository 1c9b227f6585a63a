"""Uploads as the client sends them by default: by Xet, in chunks that are packed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from lz4.frame import compress

from tests.registry_server.conftest import MODEL, Served, safetensors
from tests.registry_server.test_reading import get
from tests.registry_server.test_writing import post
from tuneforge_registry_server.xorbs import BrokenError, Chunk, Segment, Xorb, read_shard, write_shard

Folder = Callable[..., Path]
_MANY = (5 << 20) + 4


def contents() -> dict[str, bytes]:
    """Files that are packed in each of the ways there are, of lengths that no four bytes divide, and one twice."""
    chance = random.Random(0)
    floats = bytearray(_MANY)
    floats[0::4], floats[1::4] = chance.randbytes(_MANY // 4), chance.randbytes(_MANY // 4)
    floats[3::4] = b"\x3f" * (_MANY // 4)  # between 0.5 and 1
    return {
        "random": chance.randbytes(_MANY + 1),
        "text": b"the same words again and again " * (_MANY // 30),
        "model.safetensors": safetensors(bytes(floats)),
        "floats": b"\1" + floats,
        "again": b"the same words again and again " * (_MANY // 30),
        "small": b"1",
    }


@pytest.mark.slow
def test_what_is_uploaded_by_xet_is_what_was_sent(served: Served, folder: Folder) -> None:
    api, files = served.api(), contents()
    api.create_repo("orders")
    made = folder(files)
    api.upload_folder(repo_id="_/orders", folder_path=made)
    assert served.asked("/v1/shards 200")
    assert served.snapshot("orders") == files
    rooms = {path.name.rpartition("-")[0] for path in (served.registry.home / "scratch").iterdir()}
    assert rooms == {"upload-chunk", "upload-chunks"}, "what was sent is gone, which chunks it had is known"
    api.upload_folder(repo_id="_/orders", folder_path=made)
    assert list(served.registry.names()["orders"].versions) == [1]
    assert served.registry.verify() == []


@pytest.mark.slow
def test_what_is_here_is_not_sent_again(served: Served, folder: Folder) -> None:
    api, content = served.api(), random.Random(2).randbytes(16 << 20)
    api.create_repo("orders")
    api.upload_folder(repo_id="_/orders", folder_path=folder({"large": content}))
    assert len(served.asked("/xorbs/default/")) == 1
    api.create_repo("other")
    api.upload_folder(repo_id="_/other", folder_path=folder({"again": content}))
    assert served.asked("/xorbs/default/") == []
    assert served.download("other", "again") == content
    changed = content[: 8 << 20] + b"changed" + content[8 << 20 :]
    assert api.upload_folder(repo_id="_/other", folder_path=folder({"changed": changed}))
    assert served.download("other", "changed") == changed
    api.upload_folder(repo_id="_/other", folder_path=folder({"again": changed, "large": changed + content}))
    assert served.snapshot("other") == {"again": changed, "changed": changed, "large": changed + content}
    assert served.registry.verify() == []
    # What it knows of chunks is gc's to take; then everything is sent, and is right.
    served.registry.gc(dry_run=False, older_than=timedelta(0))
    assert list((served.registry.home / "scratch").iterdir()) == []
    served.asked("")
    api.upload_folder(repo_id="_/other", folder_path=folder({"more": content + b"more"}))
    assert served.asked("/xorbs/default/")
    assert served.download("other", "more") == content + b"more"


def test_an_upload_needs_the_token_that_was_given_for_it(served: Served) -> None:
    served.put("orders", MODEL)
    status, headers, body = get(f"{served.url}/api/models/orders/xet-write-token/main")
    given = json.loads(body)
    assert status == 200
    assert (headers["x-xet-cas-url"], headers["x-xet-access-token"]) == (given["casUrl"], given["accessToken"])
    xorb = f"{given['casUrl']}/v1/xorbs/default/{'a' * 64}"
    token = given["accessToken"]
    assert post(xorb, b"1", Authorization=f"Bearer {token}")[0] == 200
    for wrong in ("", "1.2", token[:-1] + ("0" if token[-1] != "0" else "1"), "9" + token, token.partition(".")[0]):
        assert post(xorb, b"1", Authorization=f"Bearer {wrong}")[0] == 401
        assert post(f"{given['casUrl']}/v1/shards", b"1", Authorization=f"Bearer {wrong}")[0] == 401
    bearer = f"Bearer {token}"
    for path in ("v1/xorbs/default/..%2F..%2Fup", "v1/xorbs/default/A", "../../up/v1/xorbs/default/" + "a" * 64):
        assert post(f"{given['casUrl']}/{path}", b"1", Authorization=bearer)[0] in (400, 404)
    assert post(f"{given['casUrl']}/v1/shards", b"no shard", Authorization=bearer) == (
        400,
        '{"error":"the shard is cut short"}',
    )


HEADER = b"HFRepoMetaData\0UigEj{\x81W\x83\xa5\xbd\xd9\\\xcd\xd1J\xa9" + struct.pack("<QQ", 2, 0)
END = b"\xff" * 32 + bytes(16)


def test_a_shard_that_is_broken_is_told() -> None:
    assert read_shard(HEADER + END + END).files == ()
    one = bytes(32) + struct.pack("<IIQ", 1 << 30, 1, 0) + bytes(32) + struct.pack("<IIII", 0, 5, 0, 1) + bytes(48)
    (described,) = read_shard(HEADER + one + END + END).files
    assert (described.sha256, described.bytes) == ("0" * 64, 5)
    huge = bytes(32) + struct.pack("<IIQ", 3 << 30, 0xFFFFFFFF, 0)
    bare = bytes(32) + struct.pack("<IIQ", 0, 0, 0)
    for broken in (
        b"",
        HEADER,
        HEADER[:-1] + END * 2,
        HEADER + one,
        HEADER + huge + END * 2,
        HEADER + bare + END * 2,
        HEADER + END,
        END * 2,
    ):
        with pytest.raises(BrokenError):
            read_shard(broken)


def test_a_shard_that_is_written_is_read() -> None:
    xorbs = {
        "0123456789abcdef" * 4: (Chunk("fedcba9876543210" * 4, 5), Chunk("a" * 64, 7)),
        "b" * 64: (Chunk("c" * 64, 1),),
    }
    written = write_shard(xorbs, 1, 2)
    assert (read_shard(written).files, read_shard(written).xorbs) == ((), xorbs)
    assert len(written) == 48 * (1 + 1 + 2 + 3 + 1) + 200


def test_a_xorb_that_is_broken_is_told(tmp_path: Path) -> None:
    file = tmp_path / "xorb"

    def chunk(content: bytes, packing: int, length: int | None = None, version: int = 0) -> bytes:
        length = len(content) if length is None else length
        return (
            struct.pack("<B3sB3s", version, struct.pack("<I", len(content))[:3], packing, struct.pack("<I", length)[:3])
            + content
        )

    def unpacked(content: bytes, bytes: int = 3, start: int = 0, end: int = 1) -> bytes:
        file.write_bytes(content)
        return b"".join(Xorb(file).unpacked(Segment("a" * 64, start, end, bytes)))

    good = chunk(b"abc", 0) + chunk(b"def", 0)
    assert unpacked(good, 6, 0, 2) == unpacked(good + b"XETBLOB" + b"\xff" * 9, 6, 0, 2) == b"abcdef"
    for wrong in ((2, 0, 1), (3, 0, 3), (0, 1, 1), (3, 7, 8)):
        with pytest.raises(BrokenError):
            unpacked(good, *wrong)
    broken = (
        good[:-1],
        good + b"\0",
        chunk(b"abc", 3),
        chunk(b"abc", 1),
        chunk(b"abc", 2),
        chunk(b"abc", 0, 4),
        chunk(b"abc", 0, 3, 1),
    )
    for content in broken:
        with pytest.raises(BrokenError):
            unpacked(content)
    with pytest.raises(BrokenError, match="more than 65536 chunks"):
        unpacked(chunk(b"", 0) * 65_537)
    bomb = compress(bytes(1 << 22))
    with pytest.raises(BrokenError):
        unpacked(chunk(bomb, 1, 3))
