"""What the Hub's client writes to a served registry, over HTTP."""

from __future__ import annotations

import hashlib
import io
import json
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError

from tests.registry_server.conftest import MODEL, Serve, Served, safetensors, until
from tuneforge_registry import locks
from tuneforge_registry.notes import About

Folder = Callable[..., Path]
LARGE = safetensors(bytes(6 << 20))
"""Above what comes within a commit."""


def stream(content: bytes) -> io.BufferedReader:
    """What the client uploads by LFS, whatever else it could do."""
    return io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]


def refused(served: Served, path: str, content: bytes = b"content") -> str:
    """Why the client says that a file is not taken."""
    before = served.registry.names()
    with pytest.raises(BadRequestError) as error:
        served.api().upload_file(path_or_fileobj=content, path_in_repo=path, repo_id="_/orders")
    assert served.registry.names() == before
    return str(error.value)


def test_a_folder_that_is_uploaded_is_the_artifact_that_a_step_would_have_made(served: Served, folder: Folder) -> None:
    api = served.api()
    assert api.create_repo("orders").repo_id == "_/orders"
    made = api.upload_folder(repo_id="_/orders", folder_path=folder(MODEL))
    digest = served.registry.resolve("orders@v1")
    assert made.oid == digest[:40]
    assert served.registry.manifest(digest).kind == "model"
    assert digest == served.put("local", MODEL)
    assert served.snapshot("orders") == MODEL
    assert served.registry.verify() == []
    # Once more: nothing is sent, and nothing becomes a version.
    served.asked("")
    again = api.upload_folder(repo_id="_/orders", folder_path=folder(MODEL))
    assert again.oid == made.oid
    assert served.asked("/commit/") == []
    assert list(served.registry.names()["orders"].versions) == [1]


def test_a_large_file_is_uploaded_once(served: Served) -> None:
    api = served.api()
    api.create_repo("orders")
    api.upload_file(path_or_fileobj=stream(LARGE), path_in_repo="model.safetensors", repo_id="_/orders")
    assert len(served.asked("PUT")) == 1
    assert served.download("orders", "model.safetensors") == LARGE
    api.create_repo("other")
    api.upload_file(path_or_fileobj=stream(LARGE), path_in_repo="again.safetensors", repo_id="_/other")
    assert served.asked("PUT") == []
    assert served.api().list_repo_commits("other")[0].title.startswith("Upload again.safetensors")
    assert served.download("other", "again.safetensors") == LARGE
    assert [path.stat().st_size for path in (served.registry.home / "blobs").rglob("*") if path.is_file()] == [
        len(LARGE)
    ]
    assert list((served.registry.home / "scratch").iterdir()) == []
    assert served.registry.verify() == []


def test_shards_of_datasets_are_uploaded_before_their_commit(served: Served, folder: Folder) -> None:
    """`Dataset.push_to_hub` uploads each, and removes it before it commits."""
    shards = {f"data/train-{number}.parquet": b"PAR1 %d" % number for number in range(2)}
    written = folder(shards)
    served.api().create_repo("rows", repo_type="dataset")
    added = [CommitOperationAdd(path, written / path) for path in shards]
    served.api().preupload_lfs_files("_/rows", added, repo_type="dataset")
    for path in shards:
        (written / path).unlink()
    served.api().create_commit("_/rows", added, commit_message="the rows", repo_type="dataset")
    assert served.snapshot("rows", repo_type="dataset") == shards


def test_files_are_added_copied_and_deleted(served: Served) -> None:
    api = served.api()
    api.create_repo("orders", repo_type="model")
    added = [CommitOperationAdd(path, content) for path, content in MODEL.items()]
    api.create_commit("_/orders", added, commit_message="the model")
    served.api().create_commit(
        "_/orders",
        [
            CommitOperationCopy("config.json", "copy.json"),
            CommitOperationDelete("nested/", is_folder=True),
            CommitOperationDelete("tokenizer.json"),
        ],
        commit_message="less",
    )
    assert served.snapshot("orders") == {
        "config.json": MODEL["config.json"],
        "copy.json": MODEL["config.json"],
        "model.safetensors": MODEL["model.safetensors"],
    }
    assert served.registry.manifest(served.registry.resolve("orders")).kind == "files"
    assert served.snapshot("orders", revision="v1") == MODEL
    for path in ("nothing", "nothing/"):
        with pytest.raises(EntryNotFoundError):
            api.create_commit("_/orders", [CommitOperationDelete(path)], commit_message="nothing")
    with pytest.raises(BadRequestError, match="a version holds at least one file"):
        api.create_commit("_/orders", [CommitOperationDelete("", is_folder=True)], commit_message="all")


def test_of_two_commits_on_the_same_parent_one_is_a_conflict(served: Served) -> None:
    api = served.api()
    api.create_repo("orders")
    parent = api.upload_file(path_or_fileobj=b"0", path_in_repo="number", repo_id="_/orders").oid
    ended: list[str] = []

    def commit(number: int) -> None:
        operations = [CommitOperationAdd("number", str(number).encode())]
        try:
            served.api().create_commit("_/orders", operations, commit_message="one", parent_commit=parent)
            ended.append("done")
        except HfHubHTTPError as error:
            assert error.response.status_code == 412
            assert "A commit has happened since" in str(error)
            ended.append("conflict")

    threads = [Thread(target=commit, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["conflict", "conflict", "done"]
    assert list(served.registry.names()["orders"].versions) == [1, 2]


def test_commits_without_a_parent_follow_each_other(served: Served) -> None:
    served.api().create_repo("orders")

    def commit(number: int) -> None:
        served.api().upload_file(path_or_fileobj=b"1", path_in_repo=f"{number}", repo_id="_/orders")

    threads = [Thread(target=commit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served.snapshot("orders") == {f"{number}": b"1" for number in range(6)}
    assert list(served.registry.names()["orders"].versions) == [1, 2, 3, 4, 5, 6]


def test_who_reads_is_answered_while_commits_wait(served: Served) -> None:
    """As they do while `tuneforge registry gc` works: more of them than the server has threads."""
    for number in range(50):
        served.api().create_repo(f"orders-{number}")
    line = json.dumps({"key": "file", "value": {"path": "a", "content": "MQ==", "encoding": "base64"}}).encode()
    ended: list[int] = []

    def commit(number: int) -> None:
        ended.append(post(f"{served.url}/api/models/orders-{number}/commit/main", line)[0])

    threads = [Thread(target=commit, args=(number,)) for number in range(50)]
    with locks.store(served.registry.home):
        for thread in threads:
            thread.start()
        until(lambda: len(list((served.registry.home / "tmp").glob("*/tree"))) >= 8)
        with urllib.request.urlopen(f"{served.url}/api/models/orders-0", timeout=60) as answer:
            assert answer.status == 200
        assert ended == []
    for thread in threads:
        thread.join()
    assert ended == [200] * 50


def test_a_repository_is_created_once(served: Served) -> None:
    api = served.api()
    api.create_repo("orders")
    assert api.create_repo("orders", exist_ok=True).repo_id == "_/orders"
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("Orders")
    with pytest.raises(BadRequestError, match="orders is here already, as a model repository"):
        api.create_repo("orders", repo_type="dataset")
    with pytest.raises(BadRequestError, match="repositories are of models and datasets here"):
        api.create_repo("orders", repo_type="space", space_sdk="static")
    assert api.model_info("orders").siblings == []
    assert list(api.list_repo_tree("orders")) == []
    api.delete_repo("orders")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("orders")
    served.put("orders", MODEL)
    with pytest.raises(HfHubHTTPError, match="versions are not deleted from afar"):
        api.delete_repo("orders")
    with pytest.raises(HfHubHTTPError, match="names do not move"):
        api.move_repo("_/orders", "team/orders")


def test_a_dataset_that_nobody_made_with_a_step(served: Served, folder: Folder) -> None:
    api = served.api()
    api.create_repo("words", repo_type="dataset")
    api.upload_folder(repo_id="_/words", folder_path=folder({"data/train.jsonl": b'{"a": 1}\n'}), repo_type="dataset")
    assert served.registry.manifest(served.registry.resolve("words")).kind == "dataset"
    assert api.dataset_info("words").id == "words"
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("words")


def test_branches_and_tags(served: Served) -> None:
    api = served.api()
    api.create_repo("orders")
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="number", repo_id="_/orders").oid
    api.create_branch("orders", branch="trial")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch("orders", branch="trial")
    api.create_branch("orders", branch="trial", exist_ok=True)
    trial = api.upload_file(path_or_fileobj=b"2", path_in_repo="number", repo_id="_/orders", revision="trial").oid
    assert served.download("orders", "number") == b"1"
    assert served.download("orders", "number", revision="trial") == b"2"
    assert api.model_info("orders").sha == first
    main = api.upload_file(path_or_fileobj=b"3", path_in_repo="number", repo_id="_/orders").oid
    refs = {ref.name: ref.target_commit for ref in api.list_repo_refs("orders").branches}
    assert refs == {"main": main, "trial": trial}
    api.create_tag("orders", tag="Release/1.0", revision="v1")
    assert api.model_info("orders", revision="Release/1.0").sha == first
    assert served.registry.names()["orders"].about[1].tags == ("Release/1.0",)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag("orders", tag="Release/1.0")
    api.create_tag("orders", tag="1.0", revision="v1")
    assert api.model_info("orders", revision="1.0").sha == first
    api.create_tag("orders", tag="v1", revision="1.0", exist_ok=True)
    with pytest.raises(BadRequestError, match="v9 is how a version or commit is called"):
        api.create_tag("orders", tag="v9")
    with pytest.raises(BadRequestError, match="how clients write a branch or tag in full"):
        api.create_tag("orders", tag="refs/tags/v10")  # nobody could ask for it: the beginning is taken off
    with pytest.raises(BadRequestError, match="cannot be a tag"):
        api.create_tag("orders", tag="../../up")
    with pytest.raises(BadRequestError, match="cannot be a branch here"):
        api.create_branch("orders", branch="../../up")
    with pytest.raises(HfHubHTTPError, match="trial is a version or a branch, and no tag"):
        api.delete_tag("orders", tag="trial")
    with pytest.raises(HfHubHTTPError, match="v1 never changes: commit to main or to a branch"):
        api.upload_file(path_or_fileobj=b"4", path_in_repo="number", repo_id="_/orders", revision="v1")
    tags = {ref.name: ref.target_commit for ref in api.list_repo_refs("orders").tags}
    assert {name: tags[name] for name in ("v1", "1.0", "Release/1.0")} == dict.fromkeys(
        ("v1", "1.0", "Release/1.0"), first
    )
    api.delete_tag("orders", tag="1.0")
    api.delete_tag("orders", tag="Release/1.0")
    assert served.registry.names()["orders"].about.get(1, About()).tags == ()
    api.delete_branch("orders", branch="trial")
    assert [ref.name for ref in api.list_repo_refs("orders").branches] == ["main"]
    with pytest.raises(HfHubHTTPError, match="it stays"):
        api.delete_branch("orders", branch="main")
    assert served.registry.verify() == []


def test_pull_requests_are_refused_with_a_reason(served: Served) -> None:
    served.put("orders", MODEL)
    with pytest.raises(BadRequestError, match="there are no pull requests here"):
        served.api().create_commit("_/orders", [CommitOperationAdd("a", b"1")], commit_message="please", create_pr=True)


def test_what_must_not_come_in_is_refused_with_a_reason(served: Served) -> None:
    served.put("orders", MODEL)
    assert "is a pickle" in refused(served, "pytorch_model.bin.pkl")
    assert "is a pickle by its name" in refused(served, "weights.PKL.gz")
    assert "pickle" in refused(served, "weights", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")
    assert "safetensors" in refused(served, "broken.safetensors", b"\xff" * 8 + b"{}")
    assert "safetensors" in refused(served, "short.safetensors", safetensors()[:-1])
    assert "clashes with 'config.json', as nothing is" in refused(served, "config.json/inside")
    assert "clashes with 'config.json' on systems that tell no case" in refused(served, "CONFIG.json")
    assert "clashes with 'nested', as nothing is" in refused(served, "nested")
    assert "adapter_config.json has more than" in refused(served, "adapter_config.json", bytes(5 << 20))
    with pytest.raises(ValueError, match="the metadata of the card is not YAML"):
        served.api().upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="_/orders")
    url = f"{served.url}/api/models/orders/commit/main"
    for path in ("../up", "/etc/passwd", "a/../../b", "a\\b", "a\0b", "a//b", ".", ""):
        line = {"key": "file", "value": {"path": path, "content": "MQ==", "encoding": "base64"}}
        status, told = post(url, json.dumps(line).encode())
        assert status == 400, told
    assert list(served.registry.names()["orders"].versions) == [1]
    assert not (served.registry.home.parent / "up").exists()


def test_a_pickle_is_taken_where_it_is_allowed_by_name(serve: Serve, tmp_path: Path) -> None:
    served = serve(tmp_path, allow_pickle=("old/weights.pkl",))
    served.put("orders", MODEL)
    pickled = b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."
    assert "--allow-pickle weights.pkl" in refused(served, "weights.pkl", pickled)
    served.api().upload_file(path_or_fileobj=pickled, path_in_repo="old/weights.pkl", repo_id="_/orders")
    assert served.download("orders", "old/weights.pkl") == pickled


def post(url: str, content: bytes, method: str = "POST", **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, content, headers, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def batch(served: Served, content: bytes) -> dict[str, str]:
    asked = {
        "operation": "upload",
        "transfers": ["basic"],
        "objects": [{"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}],
    }
    status, told = post(f"{served.url}/orders.git/info/lfs/objects/batch", json.dumps(asked).encode())
    assert status == 200
    addresses: dict[str, str] = {
        name: action["href"] for name, action in json.loads(told)["objects"][0].get("actions", {}).items()
    }
    return addresses


def test_an_object_is_taken_only_whole_and_as_agreed(served: Served) -> None:
    served.put("orders", MODEL)
    content = b"some content of an object"
    addresses = batch(served, content)
    for wrong in (content[:-1], content + b"!", b"other content of an object"[: len(content)], b""):
        status, told = post(addresses["upload"], wrong, "PUT")
        assert status in (400, 413), told
        assert post(addresses["verify"], json.dumps({"oid": hashlib.sha256(content).hexdigest(), "size": 25}).encode())[
            0
        ] in (400, 404)
    forged = addresses["upload"].replace("size=25", "size=26")
    assert post(forged, content + b"!", "PUT")[0] == 403
    assert post(addresses["upload"].partition("?")[0], content, "PUT")[0] == 403
    assert served.registry.gc(dry_run=True, older_than=timedelta(0)).garbage == ()
    assert post(addresses["upload"], content, "PUT")[0] == 200
    assert batch(served, content) == {}, "it is not asked for again"
    # Never committed, it is gc's to take.
    taken = served.registry.gc(dry_run=False, older_than=timedelta(0))
    assert [garbage.what for garbage in taken.garbage] == ["scratch"]
    line = {"key": "lfsFile", "value": {"path": "a", "algo": "sha256", "oid": hashlib.sha256(content).hexdigest()}}
    status, told = post(f"{served.url}/api/models/orders/commit/main", json.dumps(line).encode())
    assert status == 400
    assert "the content of a is not here: upload it again, then commit" in told


def test_a_file_that_lost_bytes_is_mended_by_who_uploads_it_again(served: Served) -> None:
    served.put("orders", {"model.safetensors": LARGE})
    sha256 = hashlib.sha256(LARGE).hexdigest()
    blob = served.registry.home / "blobs" / sha256[:2] / sha256
    blob.chmod(0o644)
    blob.write_bytes(LARGE[:100])
    assert served.registry.verify()
    served.api().upload_file(path_or_fileobj=stream(LARGE), path_in_repo="again.safetensors", repo_id="_/orders")
    assert served.registry.verify() == []
    assert served.snapshot("orders") == {"model.safetensors": LARGE, "again.safetensors": LARGE}


def test_a_file_within_a_commit_is_bounded(served: Served) -> None:
    served.put("orders", MODEL)
    line = b'{"key": "file", "value": {"path": "a", "encoding": "base64", "content": "' + b"A" * (8 << 20) + b'"}}'
    status, told = post(f"{served.url}/api/models/orders/commit/main", line)
    assert (status, "is to be uploaded before its commit" in told) == (413, True)


def test_who_writes_at_the_registry_and_who_writes_from_afar_see_each_other(served: Served) -> None:
    served.put("orders", MODEL)
    served.api().upload_file(path_or_fileobj=b"# Orders", path_in_repo="README.md", repo_id="_/orders")
    assert served.registry.resolve("orders@v2")
    served.put("orders", {**MODEL, "extra": b"1"})
    assert served.download("orders", "extra") == b"1"
    kinds = {served.registry.manifest(digest).kind for digest in served.registry.names()["orders"].versions.values()}
    assert kinds == {"model"}
