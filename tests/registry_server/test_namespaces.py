"""Names in a namespace are repositories of a team, as on the Hub."""

from __future__ import annotations

from huggingface_hub import HfFileSystem

from tests.registry_server.conftest import MODEL, Served


def test_a_name_in_a_namespace_is_a_repository(served: Served) -> None:
    api = served.api()
    assert api.create_repo("Team/Orders").repo_id == "team/orders"
    made = api.upload_file(path_or_fileobj=b"1", path_in_repo="a/b", repo_id="team/orders", commit_message="first")
    assert made.repo_url.repo_id == "team/orders"
    served.put("team/orders", MODEL, alias="production")
    served.put("orders", {"other": b"1"})
    served.put("team/tree", {"other": b"2"})
    assert served.snapshot("team/orders", revision="production") == MODEL
    assert served.snapshot("orders") == {"other": b"1"}
    assert served.snapshot("team/tree") == {"other": b"2"}
    assert served.snapshot("team/orders", revision="v1") == {"a/b": b"1"}
    assert [found.title for found in api.list_repo_commits("team/orders")] == ["v2", "first"]
    assert [found.id for found in api.list_models(author="team")] == ["team/tree", "team/orders"]
    assert api.model_info("team/orders").author == "team"
    assert HfFileSystem(endpoint=served.url, token=False).read_text("team/orders@v1/a/b") == "1"
    assert served.registry.verify() == []
