"""Names for artifacts: versions that never change, aliases that move. A name may be in a namespace, as on the Hub.

`refs/<name>/` or `refs/<namespace>/<name>/` holds `v1`, `v2`, ... with a digest each, and `@production` with a version.
A version that was removed says so in its file, which keeps its number from being used again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuneforge_registry import files, manifests, notes
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.notes import About

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_VERSION = re.compile(r"v([1-9][0-9]*)")
_PREFIX = re.compile(r"[0-9a-f]{6,63}")
_REMOVED = "removed"


@dataclass(frozen=True)
class Name:
    """What a name stands for: digests by version number, oldest first, and version numbers by alias.

    `about` has the tags and the note of those versions that have any.
    """

    versions: Mapping[int, str]
    aliases: Mapping[str, int]
    about: Mapping[int, About] = field(default_factory=dict)


def tag(home: Path, name: str, digest: str, alias: str | None) -> int:
    check_name(name)
    if alias is not None:
        check_alias(alias)
    from tuneforge_registry import locks

    with locks.store(home):
        manifests.read(home, digest)
        version = _add_version(home, name, digest)
        if alias is not None:
            _point(home, name, version, alias)
    return version


def _add_version(home: Path, name: str, digest: str) -> int:
    while True:
        versions = stored(home, name)
        living = [number for number, found in versions.items() if found != _REMOVED]
        if living and versions[living[-1]] == digest:
            return living[-1]
        number = max(versions, default=0) + 1
        try:
            files.create(home, folder(home, name) / f"v{number}", digest + "\n")
        except FileExistsError:  # locks may not reach across the machines of a network filesystem; this does
            continue
        return number


def point(home: Path, name: str, version: int, alias: str) -> None:
    """Let an alias of `name` stand for a version that is there."""
    check_alias(alias)
    from tuneforge_registry import locks

    with locks.store(home):
        existing(home, name, version)
        _point(home, name, version, alias)


def _point(home: Path, name: str, version: int, alias: str) -> None:
    files.replace(home, folder(home, name) / f"@{alias}", f"v{version}\n")


def place(home: Path, name: str, version: int, digest: str, alias: str | None) -> None:
    """Give a version its number, as it is in another registry, and an alias. RegistryError if the number is taken."""
    check_name(name)
    from tuneforge_registry import locks

    with locks.store(home):
        manifests.read(home, digest)
        try:
            files.create(home, folder(home, name) / f"v{version}", digest + "\n")
        except FileExistsError:
            if stored(home, name).get(version) != digest:
                problem = f"{name}@v{version} is something else here, or was removed"
                raise RegistryError(problem, "versions never change: choose another name") from None
        if alias is not None:
            check_alias(alias)
            _point(home, name, version, alias)


def describe(home: Path, name: str, version: int, add: Iterable[str], drop: Iterable[str], note: str | None) -> About:
    """Add and drop tags of a version, and replace its note unless `note` is None; gives what it has now."""
    from tuneforge_registry import locks

    add, drop = list(add), set(drop)
    notes.check(add, note)
    with locks.store(home):
        about = existing(home, name, version).about.get(version, About())
        if missing := sorted(drop - set(about.tags)):
            fix = _nearest(missing[0], about.tags, "it has") if about.tags else "it has none"
            raise RegistryError(f"{name}@v{version} has no tag {missing[0]!r}", fix)
        tags = tuple(sorted((set(about.tags) | set(add)) - drop))
        about = About(tags, about.note if note is None else note)
        notes.write(home, folder(home, name), version, about)
    return about


def existing(home: Path, name: str, version: int | None = None) -> Name:
    """What `name` stands for; RegistryError unless it is there, with this version."""
    stands_for = named(home, name)
    if stands_for is None:
        raise RegistryError(f"nothing in {home} is named {name!r}", _nearest(name, names(home), "names"))
    if version is not None and version not in stands_for.versions:
        points = [f"v{number}" for number in stands_for.versions]
        raise RegistryError(f"{name!r} has no 'v{version}'", _nearest(f"v{version}", points, "it has"))
    return stands_for


def remove(home: Path, name: str, version: int | None = None) -> None:
    """Remove a version, or all of them, with the aliases that stand for it. The artifacts stay.

    The numbers are never used again. Killed in between, no alias stands for what is not there.
    """
    from tuneforge_registry import locks

    with locks.store(home):
        stands_for = existing(home, name, version)
        gone = list(stands_for.versions) if version is None else [version]
        for alias, number in stands_for.aliases.items():
            if number in gone or version is None:
                (folder(home, name) / f"@{alias}").unlink(missing_ok=True)
        for number in gone:
            notes.write(home, folder(home, name), number, About())
            files.replace(home, folder(home, name) / f"v{number}", _REMOVED + "\n")


def remove_alias(home: Path, name: str, alias: str) -> None:
    """Remove an alias; what it stands for stays."""
    from tuneforge_registry import locks

    with locks.store(home):
        stands_for = existing(home, name)
        if alias not in stands_for.aliases:
            fix = _nearest(alias, stands_for.aliases, "it has") if stands_for.aliases else "it has none"
            raise RegistryError(f"{name!r} has no alias {alias!r}", fix)
        (folder(home, name) / f"@{alias}").unlink(missing_ok=True)
        files.sync_folder(folder(home, name))


def check_name(name: str) -> None:
    """RegistryError unless `name` is one, such as `orders` or `team/orders`."""
    for part in name.split("/", 1):
        _check("a name", part)
    own = name.rpartition("/")[2]
    if manifests.is_digest(name):
        raise RegistryError(f"the name {name!r} looks like a digest", "choose another name")
    if own != name and _VERSION.fullmatch(own):  # a name like the namespace has its version there
        raise RegistryError(f"the name {name!r} looks like a version", "choose another name")


def is_name(name: str) -> bool:
    try:
        check_name(name)
    except RegistryError:
        return False
    return True


def named(home: Path, name: str) -> Name | None:
    """What `name` stands for; None if it has no version."""
    if not is_name(name):
        return None
    entries = files.listing(folder(home, name))
    versions = {number: text for number, text in stored(home, name, entries).items() if text != _REMOVED}
    aliases = {}
    for entry in entries:
        target = _VERSION.fullmatch(_text(folder(home, name) / entry)) if entry.startswith("@") else None
        if target:
            aliases[entry[1:]] = int(target[1])
    if not versions.keys() >= {*aliases.values()}:  # one may have been moved since to a version that was not listed
        versions = {number: text for number, text in stored(home, name).items() if text != _REMOVED}
    return Name(versions, aliases, notes.read(folder(home, name), entries)) if versions else None


def names(home: Path) -> dict[str, Name]:
    found = ((name, named(home, name)) for name in sorted(folders(home)))
    return {name: stands_for for name, stands_for in found if stands_for is not None}


def folders(home: Path) -> Iterator[str]:
    """Every name that has a folder; it may have no version."""
    for name in files.listing(home / "refs"):
        entries = files.listing(home / "refs" / name)
        namespaced = inside(entries)
        if len(namespaced) < len(entries) or not entries:
            yield name
        yield from (f"{name}/{entry}" for entry in namespaced)


def inside(entries: Iterable[str]) -> list[str]:
    """Which entries of a folder in refs/ are names in a namespace."""
    return [entry for entry in entries if _NAME.fullmatch(entry) and not _VERSION.fullmatch(entry)]


def resolve(home: Path, ref: str) -> str:
    """The digest that `ref` means: `name`, `name@v3`, `name@alias`, a digest, or the first 6 digits or more of one."""
    digest = ref if manifests.is_digest(ref) else _by_name(home, ref) or _by_prefix(home, ref)
    if digest is None:
        problem = f"nothing in {home} is named {ref!r}"
        raise RegistryError(problem, _nearest(ref.partition("@")[0], names(home), "names"))
    if not manifests.exists(home, digest):
        problem = f"no artifact {digest[:12]} in {home}" + ("" if ref == digest else f", which {ref} stands for")
        raise RegistryError(problem, "run the recipe that makes it")
    return digest


def _by_name(home: Path, ref: str) -> str | None:
    found = version_of(home, ref)
    return found[2] if found else None


def version_of(home: Path, ref: str) -> tuple[str, int, str] | None:
    """The name, version number and digest that a reference by name means; None if it is none by name."""
    name, at, point = ref.partition("@")
    stands_for = named(home, name)
    if stands_for is None:
        return None
    version = _VERSION.fullmatch(point)
    number = int(version[1]) if version else stands_for.aliases.get(point) if at else max(stands_for.versions)
    if number is None or number not in stands_for.versions:
        points = [*stands_for.aliases, *(f"v{number}" for number in stands_for.versions)]
        raise RegistryError(f"{name!r} has no {point!r}", _nearest(point, points, "it has"))
    return name, number, stands_for.versions[number]


def _by_prefix(home: Path, ref: str) -> str | None:
    if not _PREFIX.fullmatch(ref):
        return None
    found = [digest for digest in manifests.digests(home) if digest.startswith(ref)]
    if len(found) > 1:
        raise RegistryError(f"{len(found)} artifacts begin with {ref}", "give more digits: " + ", ".join(found[:5]))
    return found[0] if found else None


def _nearest(wanted: str, known: Iterable[str], lead: str) -> str:
    import difflib

    known = list(known)
    if near := difflib.get_close_matches(wanted, known, n=3):
        return "did you mean " + " or ".join(repr(name) for name in near) + "?"
    return f"{lead}: " + ", ".join(known[:10]) if known else "nothing has been named yet: see `tuneforge registry tag`"


def check_alias(alias: str) -> None:
    """RegistryError unless `alias` can be one."""
    _check("an alias", alias)
    if _VERSION.fullmatch(alias):
        raise RegistryError(f"the alias {alias!r} looks like a version", "choose another alias")


def _check(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RegistryError(
            f"{name!r} cannot be {what}", "use lower-case letters, digits, '.', '_' and '-', a letter or digit first"
        )


def folder(home: Path, name: str) -> Path:
    return home / "refs" / name


def stored(home: Path, name: str, entries: Iterable[str] | None = None) -> dict[int, str]:
    """What stands in the file of each version, removed ones included."""
    found = (_VERSION.fullmatch(entry) for entry in entries or files.listing(folder(home, name)))
    numbers = sorted(int(version[1]) for version in found if version)
    return {number: _text(folder(home, name) / f"v{number}") for number in numbers}


def _text(path: Path) -> str:
    """What stands in a file; nothing if it is gone, as an alias may be by now."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""
