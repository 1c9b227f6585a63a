"""Names: versions never change, aliases move, references resolve or say what is near."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tuneforge_registry import About, FileEntry, Manifest, Name, Registry, RegistryError, files

Put = Callable[..., str]


def test_versions_count_up_and_never_change(registry: Registry, put: Put) -> None:
    first, second = put("one"), put("two")
    assert registry.tag("bot", first) == 1
    assert registry.tag("bot", first) == 1, "the newest version already"
    assert registry.tag("bot", second) == 2
    assert registry.tag("bot", first) == 3, "not the newest any more"
    assert registry.names() == {"bot": Name({1: first, 2: second, 3: first}, {})}
    assert (registry.home / "refs" / "bot" / "v2").read_text() == second + "\n"


def test_versions_are_numbers_not_text(registry: Registry, put: Put) -> None:
    digests = [put(str(number)) for number in range(11)]
    assert [registry.tag("bot", digest) for digest in digests] == list(range(1, 12))
    assert registry.resolve("bot") == digests[10]
    assert list(registry.names()["bot"].versions) == list(range(1, 12))


def test_an_alias_moves(registry: Registry, put: Put) -> None:
    first, second = put("one"), put("two")
    assert registry.tag("bot", first, alias="production") == 1
    assert registry.tag("bot", second) == 2
    assert registry.resolve("bot@production") == first
    assert registry.tag("bot", second, "production") == 2
    assert registry.resolve("bot@production") == second
    assert registry.names()["bot"].aliases == {"production": 2}
    assert (registry.home / "refs" / "bot" / "@production").read_text() == "v2\n"


def test_a_name_may_be_in_a_namespace(registry: Registry, put: Put) -> None:
    digests = [put(str(number)) for number in range(4)]
    for name, digest in zip(("team/orders", "team", "team/refunds", "team/orders"), digests, strict=True):
        registry.tag(name, digest, "production")
    registry.tag("team-b", digests[0])
    assert list(registry.names()) == ["team", "team-b", "team/orders", "team/refunds"]
    assert registry.names()["team/orders"] == Name({1: digests[0], 2: digests[3]}, {"production": 2})
    assert registry.resolve("team/orders@production") == registry.resolve("team/orders") == digests[3]
    assert (registry.resolve("team/orders@v1"), registry.resolve("team@v1")) == (digests[0], digests[1])
    assert registry.verify() == []
    registry.gc(dry_run=False, older_than=timedelta(0))
    assert {stored.digest for stored in registry.artifacts()} == set(digests)
    with pytest.raises(RegistryError) as error:
        registry.resolve("team/order")
    assert error.value.fix.startswith("did you mean 'team/orders'")
    (registry.home / "refs/team/refunds/v1").write_text("x")
    assert [damage.names for damage in registry.verify()] == [("team/refunds@v1",)]


def test_a_version_has_tags_and_a_note_that_change(registry: Registry, put: Put) -> None:
    registry.tag("team/bot", put("one"))
    assert registry.describe("team/bot", 1, ["b", "stage:prod"], note="good\nbetter") == About(
        ("b", "stage:prod"), "good\nbetter"
    )
    assert registry.describe("team/bot", 1, ["a"], ["b"]) == About(("a", "stage:prod"), "good\nbetter")
    assert registry.names()["team/bot"].about == {1: About(("a", "stage:prod"), "good\nbetter")}
    (version,) = registry.versions()
    assert (str(version), version.tags, version.note) == ("team/bot@v1", ("a", "stage:prod"), "good\nbetter")
    with pytest.raises(RegistryError, match="has no tag 'b'"):
        registry.describe("team/bot", 1, drop=["b"])
    for tags, note in ((["a b"], None), ([""], None), ([], "\x1b[31m"), ([], "x" * 20_000)):
        with pytest.raises(RegistryError):
            registry.describe("team/bot", 1, tags, note=note)
    with pytest.raises(RegistryError, match="has no 'v2'"):
        registry.describe("team/bot", 2, ["a"])
    registry.describe("team/bot", 1, drop=["a", "stage:prod"], note="")
    assert sorted(path.name for path in (registry.home / "refs/team/bot").iterdir()) == ["v1"]


def test_damage_to_what_is_said_of_a_version_is_found_and_hides_nothing(registry: Registry, put: Put) -> None:
    digest = put("one")
    registry.tag("bot", digest)
    registry.describe("bot", 1, ["a"])
    (registry.home / "refs/bot/_v1.json").write_text('{"tags": 3}')
    assert [damage.path for damage in registry.verify()] == ["refs/bot/_v1.json"]
    assert registry.resolve("bot") == digest
    assert registry.describe("bot", 1, ["b"]).tags == ("b",)
    assert registry.verify() == []


def test_numbers_of_removed_versions_are_never_used_again(registry: Registry, put: Put) -> None:
    first, second, third = (put(text) for text in ("one", "two", "three"))
    for digest in (first, second):
        registry.tag("team/bot", digest, "production")
    registry.describe("team/bot", 2, ["a"])
    registry.remove_name("team/bot", 2)
    assert registry.names()["team/bot"] == Name({1: first}, {}), "the alias went with what it stood for"
    with pytest.raises(RegistryError, match="has no 'v2'"):
        registry.resolve("team/bot@v2")
    assert registry.tag("team/bot", first) == 1, "the newest that is there"
    assert registry.tag("team/bot", third) == 3
    registry.remove_name("team/bot")
    assert registry.names() == {}
    assert registry.verify() == []
    assert {stored.digest for stored in registry.artifacts()} == {first, second, third}, "the artifacts stay"
    assert registry.tag("team/bot", second) == 4
    registry.gc(dry_run=False, older_than=timedelta(0))
    assert [stored.digest for stored in registry.artifacts()] == [second]
    with pytest.raises(RegistryError, match=r"nothing in .* is named 'bit'"):
        registry.remove_name("bit")


@pytest.mark.parametrize("last", range(4))
def test_a_name_that_is_half_removed_points_nowhere_else(
    registry: Registry, put: Put, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    for number, text in enumerate(("one", "two"), 1):
        registry.tag("bot", put(text), f"alias-{text}")
        registry.describe("bot", number, note=text)
    done: list[Path] = []
    replace, unlink = files.replace, Path.unlink

    def note(path: Path) -> None:
        done.append(path)
        if len(done) > last:
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "replace", lambda home, path, text: note(path) or replace(home, path, text))
    monkeypatch.setattr(
        Path, "unlink", lambda path, **options: (note(path) if "refs" in path.parts else None, unlink(path, **options))
    )
    with pytest.raises(KeyboardInterrupt):
        registry.remove_name("bot")
    monkeypatch.undo()
    assert registry.verify() == []
    assert set(registry.names()["bot"].aliases.values()) <= set(registry.names()["bot"].versions)
    registry.remove_name("bot")
    assert registry.tag("bot", put("three")) == 3


def test_an_alias_points_to_an_older_version_and_goes_alone(registry: Registry, put: Put) -> None:
    first, second = put("one"), put("two")
    registry.tag("bot", first)
    registry.tag("bot", second, "production")
    registry.point("bot", 1, "production")
    assert registry.resolve("bot@production") == first
    registry.remove_alias("bot", "production")
    assert registry.names()["bot"] == Name({1: first, 2: second}, {})
    with pytest.raises(RegistryError, match="has no alias 'production'"):
        registry.remove_alias("bot", "production")
    with pytest.raises(RegistryError, match="has no 'v3'"):
        registry.point("bot", 3, "production")


def test_a_version_from_elsewhere_keeps_its_number(registry: Registry, put: Put) -> None:
    first, second = put("one"), put("two")
    registry.place("team/bot", 7, first, "production")
    registry.place("team/bot", 7, first)
    assert registry.names()["team/bot"] == Name({7: first}, {"production": 7})
    assert registry.tag("team/bot", second) == 8
    registry.place("team/bot", 3, second)
    assert registry.resolve("team/bot") == second
    registry.remove_name("team/bot", 3)
    for number, digest in ((7, second), (3, second)):
        with pytest.raises(RegistryError, match="is something else here, or was removed"):
            registry.place("team/bot", number, digest)
    with pytest.raises(RegistryError, match="no artifact"):
        registry.place("team/bot", 9, "0" * 64)


def test_every_kind_of_reference_resolves(registry: Registry, put: Put) -> None:
    first, second = put("one"), put("two")
    registry.tag("bot", first, "stable")
    registry.tag("bot", second)
    for ref in ("bot@v1", "bot@stable", first, first[:6], first[:63]):
        assert registry.resolve(ref) == first
    assert registry.resolve("bot") == registry.resolve("bot@v2") == second


def test_a_name_goes_before_a_digest_that_begins_like_it(registry: Registry, put: Put) -> None:
    first, second = put("one"), put("two")
    registry.tag(first[:6], second)
    assert registry.resolve(first[:6]) == second
    assert registry.resolve(first[:7]) == first


def test_a_digest_cut_too_short_to_be_unique_is_refused(registry: Registry) -> None:
    seen: dict[str, Manifest] = {}
    for number in range(100_000):
        manifest = Manifest("model", None, {"a": FileEntry("0" * 64, number)})
        other = seen.setdefault(manifest.digest[:6], manifest)
        if other is not manifest:
            break
    for each in (manifest, other):
        path = registry.home / "manifests" / f"{each.digest}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(each.text)
    with pytest.raises(RegistryError, match="2 artifacts begin with") as error:
        registry.resolve(other.digest[:6])
    assert manifest.digest in error.value.fix
    assert other.digest in error.value.fix
    assert registry.resolve(other.digest[:20]) == other.digest
    with pytest.raises(RegistryError):
        registry.resolve(other.digest[:5])


def test_what_does_not_resolve_says_what_is_near(registry: Registry, put: Put) -> None:
    registry.tag("support-bot", put("one"), "production")

    def fix(ref: str) -> str:
        with pytest.raises(RegistryError) as error:
            registry.resolve(ref)
        return error.value.fix

    assert fix("suport-bot") == "did you mean 'support-bot'?"
    assert fix("suport-bot@v1") == "did you mean 'support-bot'?"
    assert fix("support-bot@prodution") == "did you mean 'production'?"
    assert fix("support-bot@v7") == "it has: production, v1"
    assert fix("support-bot@") == "it has: production, v1"
    assert fix("zzz") == "names: support-bot"
    assert fix("../../etc") == "names: support-bot"
    assert "run the recipe" in fix("0" * 64)


def test_a_name_whose_artifact_is_gone_does_not_resolve(registry: Registry, put: Put) -> None:
    digest = put("one")
    registry.tag("bot", digest)
    (registry.home / "manifests" / f"{digest}.json").unlink()
    with pytest.raises(RegistryError, match=f"no artifact {digest[:12]} in .*, which bot stands for"):
        registry.resolve("bot")


NO_NAMES = ["", "Bot", "-bot", ".bot", "../a", "a/", "/a", "a/../b", "a/b/c", "a/B", "a/v1", "a b", "bot@v1", "bö"]


@pytest.mark.parametrize("name", [*NO_NAMES, "a" * 300, "0" * 64])
def test_names_that_are_none(registry: Registry, put: Put, name: str) -> None:
    digest = put("one")
    with pytest.raises(RegistryError):
        registry.tag(name, digest)
    assert registry.names() == {}


@pytest.mark.parametrize("alias", ["", "v1", "v20", "Prod", "@x", "a/b", ".."])
def test_aliases_that_are_none(registry: Registry, put: Put, alias: str) -> None:
    digest = put("one")
    with pytest.raises(RegistryError):
        registry.tag("bot", digest, alias)
    assert registry.names() == {}


def test_only_what_is_here_can_be_named(registry: Registry, put: Put) -> None:
    put("one")
    with pytest.raises(RegistryError, match="no artifact"):
        registry.tag("bot", "0" * 64)
    assert registry.names() == {}


def test_a_tag_killed_before_its_first_version_left_no_name(registry: Registry, put: Put) -> None:
    digest = put("one")
    (registry.home / "refs" / "bot").mkdir(parents=True)
    assert registry.names() == {}
    assert registry.verify() == []
    with pytest.raises(RegistryError, match=r"nothing in .* is named 'bot'"):
        registry.resolve("bot")
    assert registry.tag("bot", digest) == 1
