"""What the Hub's client reads from a served registry, over HTTP."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from huggingface_hub import HfFileSystem, RepoFile, RepoFolder
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from tests.registry_server.conftest import MODEL, Serve, Served

CARD = b"---\nlicense: mit\ntags: [orders]\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n# Orders\n"


@pytest.fixture(scope="module")
def shop(serve: Serve) -> Served:
    """Two versions of a model, of which the first is in production, and a dataset."""
    shop = serve()
    shop.put("orders", MODEL, alias="production")
    card = (
        b"---\nlicense: mit\ntags: [orders]\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n# Orders\n"
    )
    shop.put("orders", MODEL | {"README.md": card, "tokenizer.json": b"{ }"})
    shop.put("questions", {"train-0.parquet": b"PAR1", "data.json": b"{}"}, kind="chat-data")
    return shop


def commit(shop: Served, ref: str) -> str:
    return shop.registry.resolve(ref)[:40]


def test_a_snapshot_is_the_artifact_byte_by_byte(shop: Served) -> None:
    for revision, ref in (
        (None, "orders"),
        ("main", "orders"),
        ("v1", "orders@v1"),
        ("production", "orders@v1"),
        (commit(shop, "orders@v1"), "orders@v1"),
        ("refs/heads/production", "orders@v1"),
    ):
        tree = shop.registry.tree(shop.registry.resolve(ref))
        found = shop.snapshot("orders", revision=revision)
        assert found == {path: (tree / path).read_bytes() for path in found}
        assert found.keys() == shop.registry.manifest(shop.registry.resolve(ref)).files.keys()


def test_a_snapshot_lies_under_the_commit_that_was_asked_for(shop: Served) -> None:
    path = shop.api().snapshot_download("orders", revision="production", cache_dir=shop.cache)
    assert Path(path).name == commit(shop, "orders@v1")
    assert shop.api().model_info("orders").sha == commit(shop, "orders@v2")
    assert shop.api().model_info("orders", revision="production").sha == commit(shop, "orders@v1")


def test_nothing_is_downloaded_twice(shop: Served, tmp_path: Path) -> None:
    shop.asked("")
    shop.snapshot("orders", revision="v1", cache_dir=tmp_path)
    assert len(shop.asked(" GET /orders/resolve/")) == len(MODEL)
    shop.snapshot("orders", revision="v1", cache_dir=tmp_path)
    assert shop.asked(" GET /orders/resolve/") == []
    # Of the next version, only what has changed: the others are known by their ETag.
    shop.snapshot("orders", revision="v2", cache_dir=tmp_path)
    assert len(shop.asked(" GET /orders/resolve/")) == 2


def test_ids_are_in_any_case_and_may_be_given_two_parts(shop: Served) -> None:
    assert shop.download("Orders", "config.json") == MODEL["config.json"]
    assert shop.download("_/orders", "config.json") == MODEL["config.json"]


def test_what_is_not_here_raises_the_errors_of_the_client(shop: Served) -> None:
    with pytest.raises(RepositoryNotFoundError, match="no model repository is named 'nothing' here"):
        shop.api().model_info("nothing")
    with pytest.raises(RepositoryNotFoundError):
        shop.download("nothing", "config.json")
    with pytest.raises(RepositoryNotFoundError):
        shop.api().dataset_info("orders")
    with pytest.raises(RepositoryNotFoundError):
        shop.api().model_info("questions")
    for revision in ("v3", "nothing", "0" * 40, "refs/pr/1"):
        with pytest.raises(RevisionNotFoundError, match=f"orders has no revision '{revision}'"):
            shop.api().model_info("orders", revision=revision)
    with pytest.raises(EntryNotFoundError, match=r"orders has no 'nothing.json' in this revision"):
        shop.download("orders", "nothing.json")
    with pytest.raises(EntryNotFoundError):
        list(shop.api().list_repo_tree("orders", "nothing"))
    assert not shop.api().file_exists("orders", "nothing.json")
    assert shop.api().file_exists("orders", "config.json")
    assert not shop.api().repo_exists("nothing")
    assert not shop.api().revision_exists("orders", "nothing")


def test_a_repository_tells_what_its_files_and_card_say(shop: Served) -> None:
    info = shop.api().model_info("orders", files_metadata=True)
    assert (info.id, info.private, info.library_name, info.pipeline_tag) == (
        "orders",
        True,
        "transformers",
        "text-generation",
    )
    assert info.tags is not None
    assert {"kind:model", "orders", "license:mit", "safetensors"} <= set(info.tags)
    assert info.config == {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    manifest = shop.registry.manifest(shop.registry.resolve("orders"))
    assert info.siblings is not None
    assert {sibling.rfilename: sibling.size for sibling in info.siblings} == {
        path: entry.size for path, entry in manifest.files.items()
    }
    assert all(sibling.lfs and sibling.lfs.sha256 for sibling in info.siblings)
    assert shop.api().dataset_info("questions").siblings


def test_repositories_are_listed_and_found(shop: Served) -> None:
    api = shop.api()
    assert [model.id for model in api.list_models()] == ["orders"]
    assert [dataset.id for dataset in api.list_datasets()] == ["questions"]
    assert [model.id for model in api.list_models(search="ORD")] == ["orders"]
    assert list(api.list_models(search="cats")) == []
    assert [model.id for model in api.list_models(filter=["license:mit", "orders"])] == ["orders"]
    assert list(api.list_models(filter="license:gpl")) == []


def test_repositories_are_listed_by_page(served: Served) -> None:
    for number in range(5):
        served.put(f"model-{number}", {**MODEL, "number": b"%d" % number})
    found = get(f"{served.url}/api/models?limit=2&sort=id")
    names = [model["id"] for model in json.loads(found[2])]
    while 'rel="next"' in found[1].get("link", ""):
        found = get(found[1]["link"].split(">")[0].removeprefix("<"))
        names += [model["id"] for model in json.loads(found[2])]
    assert names == [f"model-{number}" for number in range(5)]
    assert len(served.asked("GET /api/models")) == 3


def test_metadata_of_a_card_that_cannot_be_read_is_left_out(served: Served) -> None:
    for card in (
        b"---\na: &a [1]\nb: *a\n---\n",
        b"---\n- 1\n---",
        b"---\na: [\n---",
        b"\xff",
        b"---\na: " + b"1" * 200_000 + b"\n---",
    ):
        served.put("orders", {**MODEL, "README.md": card})
        assert served.api().model_info("orders").card_data is None


def test_a_tree_is_told_by_folder_or_as_a_whole(shop: Served) -> None:
    api = shop.api()
    top = {entry.path: type(entry) for entry in api.list_repo_tree("orders", revision="v1")}
    assert top == dict.fromkeys(MODEL.keys() - {"nested/deep er/ü.txt"}, RepoFile) | {"nested": RepoFolder}
    every = {entry.path for entry in api.list_repo_tree("orders", revision="v1", recursive=True)}
    assert every == {*MODEL, "nested", "nested/deep er"}
    below = list(api.list_repo_tree("orders", "nested/deep er", revision="v1", expand=True))
    assert [entry.path for entry in below] == ["nested/deep er/ü.txt"]
    known = {entry.path: entry for entry in api.list_repo_tree("orders", recursive=True, expand=True)}
    changed = {
        path: entry.last_commit and entry.last_commit.oid
        for path, entry in known.items()
        if isinstance(entry, RepoFile)
    }
    first, second = commit(shop, "orders@v1"), commit(shop, "orders@v2")
    assert changed == dict.fromkeys(MODEL, first) | {"README.md": second, "tokenizer.json": second}


def test_a_long_tree_comes_in_pages(served: Served) -> None:
    files = {f"{number:04}/file": b"" for number in range(520)}
    served.put("many", files)
    entries = list(served.api().list_repo_tree("many", recursive=True))
    assert {entry.path for entry in entries if isinstance(entry, RepoFile)} == files.keys()
    assert len(entries) == 1040
    assert len(served.asked("/tree/")) == 2


def test_paths_refs_and_commits(shop: Served) -> None:
    api = shop.api()
    found = api.get_paths_info("orders", ["config.json", "nested", "nothing"], expand=True)
    assert [entry.path for entry in found] == ["config.json", "nested"]
    refs = api.list_repo_refs("orders", include_pull_requests=True)
    first, second = commit(shop, "orders@v1"), commit(shop, "orders@v2")
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "production": first}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first, "v2": second}
    commits = api.list_repo_commits("orders", formatted=True)
    assert [(found.commit_id, found.title) for found in commits] == [(second, "v2"), (first, "v1")]
    assert [found.commit_id for found in api.list_repo_commits("orders", revision="v1")] == [first]


def test_main_is_what_its_alias_points_to(served: Served) -> None:
    served.put("orders", MODEL, alias="main")
    served.put("orders", {**MODEL, "tokenizer.json": b"[]"})
    assert served.api().model_info("orders").sha == commit(served, "orders@v1")
    assert served.download("orders", "tokenizer.json") == b"{}"


def test_the_file_system_of_the_client(shop: Served) -> None:
    files = HfFileSystem(endpoint=shop.url, token=False)
    assert files.read_text("_/orders@v1/nested/deep er/ü.txt") == "hello"
    assert files.glob("_/orders/*.json") == ["_/orders/config.json", "_/orders/tokenizer.json"]
    with files.open("_/orders/model.safetensors", "rb", block_size=16) as file:
        file.seek(-4, 2)
        assert file.read() == MODEL["model.safetensors"][-4:]
    listed = files.ls("datasets/_/questions", detail=False)
    assert listed == ["datasets/_/questions/data.json", "datasets/_/questions/train-0.parquet"]
    assert not files.exists("_/orders/nothing")


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, {name.lower(): value for name, value in response.headers.items()}, response.read()
    except HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


def test_ranges_and_conditions(shop: Served) -> None:
    url = f"{shop.url}/orders/resolve/v1/model.safetensors"
    content = MODEL["model.safetensors"]
    status, headers, body = get(url)
    assert (status, body) == (200, content)
    entry = shop.registry.manifest(shop.registry.resolve("orders@v1")).files["model.safetensors"]
    assert headers["etag"] == f'"{entry.sha256}"'
    assert headers["x-repo-commit"] == commit(shop, "orders@v1")
    assert headers["x-linked-size"] == headers["content-length"] == str(len(content))
    for asked, expected in (("4-7", content[4:8]), ("4-", content[4:]), ("-4", content[-4:]), ("0-999", content)):
        status, headers, body = get(url, Range=f"bytes={asked}")
        assert (status, body) == (206, expected)
        assert headers["content-range"].endswith(f"/{len(content)}")
    status, headers, _ = get(url, Range="bytes=999-")
    assert (status, headers["content-range"]) == (416, f"bytes */{len(content)}")
    status, headers, body = get(url, Range="bytes=0-1,4-5")
    assert status == 206
    assert headers["content-type"].startswith("multipart/byteranges")
    assert get(url, If_None_Match=f'"{entry.sha256}"')[0] == 304
    assert get(url, If_None_Match='"other"')[0] == 200
    assert get(url, Range="bytes=4-7", If_Range=f'"{entry.sha256}"')[0] == 206
    assert get(url, Range="bytes=4-7", If_Range='"other"')[2] == content


def test_a_blob_that_is_gone_is_told(served: Served) -> None:
    digest = served.put("orders", MODEL)
    entry = served.registry.manifest(digest).files["config.json"]
    (served.registry.home / "blobs" / entry.sha256[:2] / entry.sha256).unlink()
    status, _, body = get(f"{served.url}/orders/resolve/main/config.json")
    assert status == 410
    assert b"gone or cut short: see `tuneforge registry verify`" in body


def test_a_damaged_repository_hides_no_other_and_tells_no_folder(served: Served) -> None:
    served.put("orders", MODEL)
    first = served.put("damaged", {"number": b"1"}, alias="main")
    served.put("damaged", {"number": b"2"})
    manifest = served.registry.home / "manifests" / f"{first}.json"
    manifest.chmod(0o644)
    manifest.write_text("{}")
    assert [found.id for found in served.api().list_models()] == ["orders"]
    status, _, told = get(f"{served.url}/api/models/damaged")
    assert (status, b"is damaged" in told) == (500, True)
    assert str(served.registry.home).encode() not in told


def test_what_is_not_offered_is_told(shop: Served) -> None:
    assert get(f"{shop.url}/api/spaces/orders")[0] == 404
    assert get(f"{shop.url}/health") == (200, get(f"{shop.url}/health")[1], b"ok")
    status, _, body = get(f"{shop.url}/nothing/at/all")
    assert status == 404
    assert b"is not offered by this server" in body
