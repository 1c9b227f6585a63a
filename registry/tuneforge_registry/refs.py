"""Names for artifacts: versions that never change, aliases that move. A name may be in a namespace, as on the Hub.

`refs/<name>/` or `refs/<namespace>/<name>/` holds `v1`, `v2`, ... with a digest each, and `@production` with a version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneforge_registry import files, manifests
from tuneforge_registry.errors import RegistryError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_VERSION = re.compile(r"v([1-9][0-9]*)")
_PREFIX = re.compile(r"[0-9a-f]{6,63}")


@dataclass(frozen=True)
class Name:
    """What a name stands for: digests by version number, oldest first, and version numbers by alias."""

    versions: Mapping[int, str]
    aliases: Mapping[str, int]


def tag(home: Path, name: str, digest: str, alias: str | None) -> int:
    check_name(name)
    if alias is not None:
        _check("an alias", alias)
        if _VERSION.fullmatch(alias):
            raise RegistryError(f"the alias {alias!r} looks like a version", "choose another alias")
    from tuneforge_registry import locks

    with locks.store(home):
        manifests.read(home, digest)
        version = _add_version(home, name, digest)
        if alias is not None:
            files.replace(home, _folder(home, name) / f"@{alias}", f"v{version}\n")
    return version


def _add_version(home: Path, name: str, digest: str) -> int:
    while True:
        versions = _versions(home, name)
        newest = max(versions, default=0)
        if versions.get(newest) == digest:
            return newest
        try:
            files.create(home, _folder(home, name) / f"v{newest + 1}", digest + "\n")
        except FileExistsError:  # locks may not reach across the machines of a network filesystem; this does
            continue
        return newest + 1


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
    versions = _versions(home, name)
    aliases = {}
    for entry in files.listing(_folder(home, name)):
        target = _VERSION.fullmatch(_text(_folder(home, name) / entry)) if entry.startswith("@") else None
        if target:
            aliases[entry[1:]] = int(target[1])
    return Name(versions, aliases) if versions else None


def names(home: Path) -> dict[str, Name]:
    found = ((name, named(home, name)) for name in sorted(folders(home)))
    return {name: stands_for for name, stands_for in found if stands_for is not None}


def folders(home: Path) -> Iterator[str]:
    """Every name that has a folder; it may have no version."""
    for name in files.listing(home / "refs"):
        entries = files.listing(home / "refs" / name)
        inside = [entry for entry in entries if _NAME.fullmatch(entry) and not _VERSION.fullmatch(entry)]
        if len(inside) < len(entries) or not entries:
            yield name
        yield from (f"{name}/{entry}" for entry in inside)


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
    name, at, point = ref.partition("@")
    stands_for = named(home, name)
    if stands_for is None:
        return None
    if not at:
        return stands_for.versions[max(stands_for.versions)]
    version = _VERSION.fullmatch(point)
    number = int(version[1]) if version else stands_for.aliases.get(point)
    if number is None or number not in stands_for.versions:
        points = [*stands_for.aliases, *(f"v{number}" for number in stands_for.versions)]
        raise RegistryError(f"{name!r} has no {point!r}", _nearest(point, points, "it has"))
    return stands_for.versions[number]


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


def _check(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RegistryError(
            f"{name!r} cannot be {what}", "use lower-case letters, digits, '.', '_' and '-', a letter or digit first"
        )


def _folder(home: Path, name: str) -> Path:
    return home / "refs" / name


def _versions(home: Path, name: str) -> dict[int, str]:
    found = (_VERSION.fullmatch(entry) for entry in files.listing(_folder(home, name)))
    numbers = sorted(int(version[1]) for version in found if version)
    return {number: _text(_folder(home, name) / f"v{number}") for number in numbers}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()
