"""Who may read, who may write, and who is not let in at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants
from huggingface_hub.errors import HfHubHTTPError

from tests.registry_server.conftest import MODEL, Serve, Served
from tests.registry_server.test_reading import get
from tests.registry_server.test_writing import post, stream
from tuneforge_registry import RegistryError
from tuneforge_registry_server import Tokens

READER, WRITER = "hf_reader-of-the-shop-0001", "hf_writer-of-the-shop-0002"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    digest = hashlib.sha256(WRITER.encode()).hexdigest()
    path.write_text(f"# who has which\nread {READER} kim\n\nwrite sha256:{digest}   the release job\n")
    return path


@pytest.fixture
def shop(serve: Serve, file: Path, tmp_path: Path) -> Served:
    shop = serve(tmp_path, tokens=Tokens.read(file))
    shop.put("orders", MODEL)
    return shop


def status(ask: Callable[[], object]) -> int:
    with pytest.raises(HfHubHTTPError) as error:
        ask()
    return error.value.response.status_code


def test_each_token_has_its_right(shop: Served) -> None:
    reader, writer = shop.api(READER), shop.api(WRITER)
    assert shop.download("orders", "config.json", token=READER) == MODEL["config.json"]
    assert reader.whoami()["name"] == "kim"
    assert reader.whoami()["auth"]["accessToken"]["role"] == "read"
    assert (writer.whoami()["name"], writer.whoami()["auth"]["accessToken"]["role"]) == ("the release job", "write")
    upload = {"path_or_fileobj": b"1", "path_in_repo": "a", "repo_id": "_/orders"}
    assert status(lambda: reader.upload_file(**upload)) == 403
    assert status(lambda: reader.create_repo("other")) == 403
    assert status(lambda: reader.create_tag("orders", tag="1.0")) == 403
    assert status(lambda: reader.auth_check("orders", write=True)) == 403
    reader.auth_check("orders")
    writer.auth_check("orders", write=True)
    assert list(shop.registry.names()["orders"].versions) == [1]
    writer.upload_file(**upload)
    assert shop.download("orders", "a", token=READER) == b"1"


def test_without_a_token_or_with_a_wrong_one_nobody_comes_in(shop: Served) -> None:
    for token in (
        False,
        "hf_wrong",
        READER + "x",
        READER[:-1],
        "sha256:" + hashlib.sha256(WRITER.encode()).hexdigest(),
    ):
        api = shop.api(token)
        assert status(lambda api=api: api.model_info("orders")) == 401  # type: ignore[misc]
        assert status(lambda api=api: api.model_info("nothing")) == 401  # type: ignore[misc]
        assert status(lambda api=api: api.hf_hub_download("orders", "config.json", cache_dir=shop.cache)) == 401  # type: ignore[misc]
        assert status(lambda api=api: api.create_repo("other")) == 401  # type: ignore[misc]
    assert get(f"{shop.url}/api/models", Authorization=f"Basic {READER}")[0] == 401
    assert get(f"{shop.url}/api/models", Authorization=f"bearer {READER}")[0] == 200
    assert "asks for a token" in get(f"{shop.url}/health")[2].decode()


def test_a_card_is_looked_at_whoever_asks(shop: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub shows no token there."""
    monkeypatch.setattr(constants, "ENDPOINT", shop.url)
    ModelCard("---\nlicense: mit\n---\n# Orders").validate()
    address = f"{shop.url}/api/validate-yaml"
    status, told = post(address, json.dumps({"content": "---\na: [\n---\n"}).encode())
    assert (status, "the metadata of the card is not YAML" in told) == (400, True)
    assert post(address, b"[]")[0] == 400
    assert post(address, bytes(5 << 20))[0] == 413
    assert post(address, b"{}", Authorization="Bearer hf_wrong")[0] == 401
    assert get(address)[0] == 405
    for path in ("/api/repos/create", "/api/validate-yaml/", "/api/models/../validate-yaml"):
        assert post(shop.url + path, b"{}")[0] == 401


def test_files_are_sent_to_addresses_that_carry_their_own_right(shop: Served) -> None:
    content = bytes(6 << 20)
    writer = shop.api(WRITER)
    writer.upload_file(path_or_fileobj=stream(content), path_in_repo="large", repo_id="_/orders")
    assert shop.download("orders", "large", token=READER) == content
    for path in ("/-/uploads/lfs/" + "a" * 64, "/-/uploads/xet/" + "a" * 32 + "/v1/shards", "/-/uploads/../api/models"):
        assert post(shop.url + path, b"", "PUT" if "lfs" in path else "POST")[0] in (400, 401, 403, 404, 405)


def test_no_token_and_no_signature_is_told_to_whoever_watches(shop: Served) -> None:
    shop.api(WRITER).upload_file(path_or_fileobj=stream(bytes(6 << 20)), path_in_repo="large", repo_id="_/orders")
    status(lambda: shop.api("hf_a-wrong-token-it-is").model_info("orders"))
    shop.api(READER).model_info("orders")
    said = "\n".join(shop.asked(""))
    assert not any(secret in said for secret in (READER, WRITER, "hf_a-wrong-token", "signed="))
    assert " kim GET /api/models/orders 200" in said
    assert " the release job POST /api/models/_/orders/commit/main 200" in said
    assert repr(Tokens.read(Path(shop.registry.home.parent / "tokens"))).count("digest") == 0


def test_a_line_cannot_steer_the_terminal(served: Served) -> None:
    get(f"{served.url}/%1b%5b2J/%0a/x")
    assert all(line.isprintable() for line in served.asked(""))


def test_a_registry_that_is_served_read_only(serve: Serve, tmp_path: Path) -> None:
    served = serve(tmp_path, read_only=True)
    served.put("orders", MODEL)
    assert served.snapshot("orders") == MODEL
    with pytest.raises(HfHubHTTPError, match="this token may only read, or the registry is served read-only"):
        served.api().upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="_/orders")
    assert served.api("hf_any").whoami()["auth"]["accessToken"]["role"] == "read"


def test_pages_in_a_browser_change_nothing_and_read_nothing(served: Served) -> None:
    served.put("orders", MODEL)
    create = f"{served.url}/api/repos/create"
    for headers in ({"Origin": "https://evil.example"}, {"Origin": served.url}, {"Sec-Fetch-Site": "cross-site"}):
        assert post(create, b'{"name": "other"}', **headers)[0] == 403
    for name in ("orders", "nothing"):  # or whether it can be loaded would tell which names there are
        loaded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert get(f"{served.url}/api/models/{name}", **loaded)[0] == 403
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert get(f"{served.url}/api/models/orders", **followed)[0] == 200
    assert post(create, b'{"name": "other"}')[0] == 200
    # A name of another site that was made to point here.
    port = served.url.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", ""):
        assert get(f"{served.url}/orders/resolve/main/config.json", Host=host)[0] == 421
    for host in ("localhost", f"LOCALHOST:{port}", f"127.0.0.1:{port}"):
        assert get(f"{served.url}/orders/resolve/main/config.json", Host=host)[0] == 200
    assert "access-control-allow-origin" not in get(f"{served.url}/api/models", Origin="https://evil.example")[1]


def test_a_name_that_points_here_does_where_tokens_are_asked_for(shop: Served) -> None:
    headers = {"Host": "models.team.example", "Authorization": f"Bearer {READER}"}
    assert get(f"{shop.url}/orders/resolve/main/config.json", **headers)[0] == 200


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no token"),
        ("# none\n", "there is no token"),
        ("read", "line 1"),
        ("admin hf_0123456789abcdef", "line 1"),
        (f"read {READER}\nwrite short", "the token in line 2"),
        ("write sha256:0123456789abcdef0123456789abcdef", "the token in line 1"),
    ],
)
def test_a_file_of_tokens_that_is_wrong_is_told_without_them(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(RegistryError, match=told) as error:
        Tokens.read(tmp_path / "tokens")
    assert error.value.fix
    assert READER not in f"{error.value.problem} {error.value.fix}"
