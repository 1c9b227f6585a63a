"""Whether everything in the registry is still what it was when it was committed."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tuneforge_registry import blobs, files, manifests, notes, refs, runs, steps
from tuneforge_registry.errors import RegistryError

Progress = Callable[[int, int], None]
"""Called with the bytes checked so far and the bytes to check."""


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was: which file (`path`, in the registry), what is wrong, and what to do.

    `artifacts` are the digests it makes unusable, through `base` as well; `names` the versions of names that stand for
    them, such as `support-bot@v3`.
    """

    what: Literal["blob", "manifest", "name", "step", "run"]
    path: str
    problem: str
    fix: str
    artifacts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def check(home: Path, progress: Progress | None, only: str | None = None) -> list[Damage]:
    """Everything damaged or missing, each once, with what it touches and how to mend it.

    Of the artifact `only`, what it needs: its manifest and those it sits on, and their files.
    """
    # Manifests before blobs: what is put meanwhile has its blobs before its manifest.
    found: dict[str, manifests.Manifest] = {}
    damages: list[Damage] = []
    wanted = [only] if only else manifests.digests(home)
    for digest in wanted:
        try:
            found[digest] = manifests.read(home, digest)
        except RegistryError as error:
            if manifests.exists(home, digest):
                damages.append(_damage(home, "manifest", manifests.location(home, digest), error, [digest]))
        else:
            base = found[digest].base
            if only and base and manifests.exists(home, base):
                wanted.append(base)
    damages += _bases(home, found)
    damages += _blobs(home, found, progress, everything=only is None)
    if only is None:
        damages += [*_names(home), *_steps(home), *_runs(home), *_ancestors(home)]
    known = refs.names(home) if damages else {}
    return [_with_reach(home, damage, found, known) for damage in damages]


def _bases(home: Path, found: dict[str, manifests.Manifest]) -> Iterator[Damage]:
    for digest, manifest in found.items():
        if manifest.base and not manifests.exists(home, manifest.base) and manifests.exists(home, digest):
            yield Damage(
                "manifest",
                manifests.location(home, digest).relative_to(home).as_posix(),
                f"its base {manifest.base[:12]} is not in the registry",
                "run the recipe that made the base again",
                (digest,),
            )


def _blobs(
    home: Path, found: dict[str, manifests.Manifest], progress: Progress | None, everything: bool
) -> Iterator[Damage]:
    users: dict[str, set[str]] = defaultdict(set)
    for digest, manifest in found.items():
        for entry in manifest.files.values():
            users[entry.sha256].add(digest)
    stored = dict(blobs.stored(home)) if everything else {sha256: blobs.location(home, sha256) for sha256 in users}
    sizes = dict(_sizes(stored))
    for sha256 in sorted(users.keys() - sizes.keys()):
        # Looked at again: gc may have taken the artifact and its blobs since its manifest was read.
        lost = [digest for digest in sorted(users[sha256]) if manifests.exists(home, digest)]
        if lost and not blobs.location(home, sha256).exists():
            path = blobs.location(home, sha256).relative_to(home).as_posix()
            yield Damage("blob", path, "is gone", "run the recipe that made it again", tuple(lost))
    total, done = sum(sizes.values()), 0
    for sha256, size in sizes.items():
        with contextlib.suppress(FileNotFoundError), stored[sha256].open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                path = stored[sha256].relative_to(home).as_posix()
                problem = "its content is not what its name says"
                fix = "delete it and run the recipe that made it again"
                fix = fix if users[sha256] else "nothing needs it: `tuneforge registry gc` takes it"
                yield Damage("blob", path, problem, fix, tuple(sorted(users[sha256])))
        done += size
        if progress is not None:
            progress(done, total)


def _sizes(stored: dict[str, Path]) -> Iterator[tuple[str, int]]:
    for sha256, blob in stored.items():
        with contextlib.suppress(FileNotFoundError):
            yield sha256, blob.stat().st_size


def _names(home: Path) -> Iterator[Damage]:
    for name in refs.folders(home):
        folder = home / "refs" / name
        known = refs.named(home, name)
        versions = known.versions if known else {}
        for number, digest in versions.items():
            if not manifests.exists(home, digest):
                problem = f"{name}@v{number} stands for {digest[:12]!r}, which is not in the registry"
                path = (folder / f"v{number}").relative_to(home).as_posix()
                yield Damage("name", path, problem, "run the recipe that made it again", (), (f"{name}@v{number}",))
        for entry in files.listing(folder):
            if notes.is_file(entry) and notes.load(folder / entry) is None and (folder / entry).exists():
                path = (folder / entry).relative_to(home).as_posix()
                yield Damage("name", path, "the tags and the note in it cannot be read", "delete it and say them again")
            alias = entry[1:]
            if entry.startswith("@") and _dangles(home, name, alias, known) and _dangles(home, name, alias):
                problem = f"{name}@{alias} stands for a version that is not there"
                path = (folder / entry).relative_to(home).as_posix()
                yield Damage("name", path, problem, f"tag {name} with {alias} again", (), (f"{name}@{alias}",))


def _dangles(home: Path, name: str, alias: str, known: refs.Name | None = None) -> bool:
    """Whether an alias stands for no version, by what is `known` or by what is there now."""
    known = known or refs.named(home, name)
    there = refs.folder(home, name) / f"@{alias}"
    return not (known and known.aliases.get(alias) in known.versions) and there.exists()


def _steps(home: Path) -> Iterator[Damage]:
    for key in files.listing(home / "steps"):
        digest = steps.recorded(home, key)
        path = steps.location(home, key)
        if (digest is None or not manifests.exists(home, digest)) and path.exists():
            problem = f"stands for {digest[:12] if digest else 'no digest'}, which is not in the registry"
            fix = "nothing is lost: the step runs again when it is needed"
            yield Damage("step", path.relative_to(home).as_posix(), problem, fix)


def _runs(home: Path) -> Iterator[Damage]:
    for run_id in runs.ids(home):
        try:
            runs.read(home, run_id)
        except RegistryError as error:
            yield _damage(home, "run", runs.location(home, run_id), error, [])


def _ancestors(home: Path) -> Iterator[Damage]:
    for name in files.listing(home / manifests.ANCESTORS):
        path = home / manifests.ANCESTORS / name
        with contextlib.suppress(FileNotFoundError):
            if manifests.parse(path.read_bytes(), name.removesuffix(".json")) is None:
                fix = "delete it: only lineage tells of it; the import that brought it brings it again"
                yield Damage("manifest", path.relative_to(home).as_posix(), "is damaged", fix)


def _damage(
    home: Path, what: Literal["manifest", "run"], path: Path, error: RegistryError, artifacts: Iterable[str]
) -> Damage:
    return Damage(what, path.relative_to(home).as_posix(), error.problem, error.fix, tuple(artifacts))


def _with_reach(
    home: Path, damage: Damage, found: dict[str, manifests.Manifest], known: dict[str, refs.Name]
) -> Damage:
    """The damage with everything that sits on what it touches, the names of all that, and who can make it again."""
    reached = set(damage.artifacts)
    while more := {digest for digest, manifest in found.items() if manifest.base in reached} - reached:
        reached |= more
    named = {
        f"{name}@v{number}"
        for name, stands_for in known.items()
        for number, digest in stands_for.versions.items()
        if digest in reached
    }
    fix = damage.fix + (_again(home, damage.artifacts) if damage.what in ("blob", "manifest") else "")
    return replace(damage, fix=fix, artifacts=tuple(sorted(reached)), names=tuple(sorted(named | set(damage.names))))


def _again(home: Path, digests: Iterable[str]) -> str:
    """Which recorded step makes one of these artifacts, if any does."""
    from tuneforge_registry import lineage

    for digest in digests:
        for run_id, step in lineage.made_by(home, digest):
            with contextlib.suppress(RegistryError):
                recipe = runs.read(home, run_id).get("recipe")
                named = f" of {recipe}" if isinstance(recipe, str) else ""
                return f" (step {step}{named}, in run {run_id}), or import an export of {digest[:12]}"
    return ""
