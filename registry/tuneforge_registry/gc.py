"""Removing what nothing needs any more."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar

from tuneforge_registry import blobs, files, locks, manifests, refs, runs, steps, trees
from tuneforge_registry.errors import RegistryError

Thing = TypeVar("Thing")
_WRITING = 3600.0
"""Seconds after which a small file in tmp/ is no longer being written, even where everything else may go at once."""


@dataclass(frozen=True)
class Garbage:
    """One thing that would be, or was, removed: its path in the registry, and the bytes that frees.

    Of an artifact, its `digest`, `kind` and `size`: the bytes of its files, which are things of their own and go unless
    another has them too.
    """

    what: Literal["artifact", "step", "tree", "blob", "scratch", "tmp"]
    path: str
    bytes: int
    digest: str | None = None
    kind: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Collection:
    garbage: tuple[Garbage, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.garbage)


Progress = Callable[[int, int], None]
"""Called with how many things were looked at, and how many there are; now and then, and at the end."""

_TOLD_EVERY = 256


def collect(home: Path, dry_run: bool, older_than: timedelta, progress: Progress | None) -> Collection:
    """Remove what is neither wanted nor in use, or only tell.

    Wanted is what has a name, what runs younger than `older_than` name, what was put, asked for by step key or opened
    as a tree since then, and every base of these. While any lock or workspace is held, everything since it was taken
    counts as young. RegistryError if damage leaves in doubt what is wanted: then nothing is removed.
    """
    if not home.exists():
        return Collection(())
    with locks.store(home):
        young = min(time.time() - older_than.total_seconds(), *_held_since(home))
        return Collection(tuple(_sweep(home, dry_run, young, _Looked(progress))))


class _Looked:
    """Counts things as they are looked at, in rounds that are announced."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._done, self._total = progress, 0, 0

    def at(self, things: Sequence[Thing]) -> Iterator[Thing]:
        self._total += len(things)
        for thing in things:
            yield thing
            self._done += 1
            if self._progress and (self._done % _TOLD_EVERY == 0 or self._done == self._total):
                self._progress(self._done, self._total)


def tidy(home: Path) -> None:
    """Remove what killed processes have left: their workspaces, and the locks of their runs."""
    with contextlib.suppress(PermissionError):  # in a shared registry, what others left is theirs to remove
        for _ in _abandoned(home, dry_run=False, young=time.time()):
            pass
        for name in files.listing(home / "locks"):
            if name.startswith(runs.LOCKED):  # its run is named once: nobody will take it again
                with locks.free(home / "locks" / name) as nobody:
                    if nobody:
                        (home / "locks" / name).unlink(missing_ok=True)


def in_use(home: Path, marks: Iterable[Path]) -> bool:
    """Whether one of the files was marked since a lock or workspace was taken that is held now."""
    since = min(_held_since(home))
    return any(_touched(mark) >= since for mark in marks)


def _held_since(home: Path) -> Iterator[float]:
    guards = [home / "locks" / name for name in files.listing(home / "locks") if name != f"{locks.STORE}.lock"]
    guards += [home / "tmp" / name for name in files.listing(home / "tmp") if name.endswith(".lock")]
    yield time.time()
    for guard in guards:
        since = _touched(guard)
        with locks.free(guard) as nobody:
            if not nobody:
                yield since


def _sweep(home: Path, dry_run: bool, young: float, looked: _Looked) -> Iterator[Garbage]:
    found = {digest: manifests.read(home, digest) for digest in looked.at(manifests.digests(home))}
    named = set(_named(home))
    wanted = named | set(_in_runs(home, young))
    keys: dict[str, list[str]] = defaultdict(list)
    for key in files.listing(home / "steps"):
        keys[steps.recorded(home, key) or ""].append(key)

    # From here to the last manifest, as quickly as can be: what is asked for in between may still be removed.
    for digest in found:
        marks = [manifests.location(home, digest), trees.location(home, digest)]
        marks += [steps.location(home, key) for key in keys[digest]]
        if any(_touched(mark) >= young for mark in marks):
            wanted.add(digest)
    wanted = _with_bases(wanted, found)
    kept = {digest: manifest for digest, manifest in found.items() if digest in wanted}
    for digest, under in keys.items():
        if digest not in kept:
            for key in under:
                yield _remove("step", home, steps.location(home, key), dry_run)
    # What sits on another goes before it: whoever dies in between leaves nothing without its base.
    for digest in _tops_first({digest: found[digest] for digest in found.keys() - kept.keys()}):
        garbage = _remove("artifact", home, manifests.location(home, digest), dry_run)
        yield replace(garbage, digest=digest, kind=found[digest].kind, size=found[digest].size)

    for digest in looked.at(files.listing(home / "trees")):
        tree = trees.location(home, digest)
        if digest not in kept or (digest not in named and _touched(tree) < young):
            yield _remove("tree", home, tree, dry_run)
    needed = {entry.sha256 for manifest in kept.values() for entry in manifest.files.values()}
    for sha256, blob in looked.at(list(blobs.stored(home))):
        if sha256 not in needed:
            yield _remove("blob", home, blob, dry_run)
    for key in files.listing(home / "scratch"):
        folder = home / "scratch" / key
        if max([_touched(folder), *map(_touched, files.walk(folder))]) < young:
            yield _remove("scratch", home, folder, dry_run)
    yield from _abandoned(home, dry_run, young)


def _named(home: Path) -> Iterator[str]:
    for name, stands_for in refs.names(home).items():
        for number, digest in stands_for.versions.items():
            if not manifests.is_digest(digest):
                raise RegistryError(
                    f"the name {name}@v{number} is damaged", "see `tuneforge registry verify`; then collect again"
                )
            yield digest


def _in_runs(home: Path, young: float) -> Iterator[str]:
    for run_id in runs.ids(home):
        if _touched(runs.location(home, run_id)) >= young:
            for step in runs.steps(runs.read(home, run_id)):
                yield step["digest"]
                for sources in runs.inputs(step).values():
                    yield from sources


def _with_bases(wanted: Iterable[str], found: dict[str, manifests.Manifest]) -> set[str]:
    reached = set(wanted)
    while more := {base for digest in reached if digest in found and (base := found[digest].base)} - reached:
        reached |= more
    return reached


def _tops_first(gone: dict[str, manifests.Manifest]) -> list[str]:
    ordered: dict[str, None] = {}
    for digest in gone:
        chain = []
        at: str | None = digest
        while at in gone and at not in ordered:
            chain.append(at)
            at = gone[at].base
        ordered |= dict.fromkeys(reversed(chain))
    return list(reversed(ordered))


def _abandoned(home: Path, dry_run: bool, young: float) -> Iterator[Garbage]:
    """What is left in tmp/ of processes that died: workspaces whose lock nobody holds, small files past their time."""
    tmp = home / "tmp"
    guarded = set()
    for name in files.listing(tmp):
        if name.endswith(".lock"):
            folder = tmp / name.removesuffix(".lock")
            guarded |= {name, folder.name}
            with locks.free(tmp / name) as nobody:
                if nobody and folder.exists():
                    yield _remove("tmp", home, folder, dry_run)
                if nobody:
                    yield _remove("tmp", home, tmp / name, dry_run)
    for name in files.listing(tmp):
        if name in guarded:
            continue
        # A lock that is only a file went when it was found to be nobody's; a living workspace has one.
        bare = (tmp / name).is_dir() and not (tmp / f"{name}.lock").exists()
        if bare or 0 < _touched(tmp / name) < min(young, time.time() - _WRITING):
            yield _remove("tmp", home, tmp / name, dry_run)


def _touched(path: Path) -> float:
    """When something was last written or marked, in seconds since the epoch; 0 if it is not there."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(
    what: Literal["artifact", "step", "tree", "blob", "scratch", "tmp"], home: Path, path: Path, dry_run: bool
) -> Garbage:
    freed = 0
    for file in files.walk(path) if path.is_dir() else [path]:
        with contextlib.suppress(FileNotFoundError):  # a process may clear away its own meanwhile
            status = file.lstat()
            # A file with other hard links frees nothing; a blob's other links are its trees, which go with it.
            freed += status.st_size if what == "blob" or status.st_nlink == 1 else 0
    if not dry_run:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return Garbage(what, path.relative_to(home).as_posix(), freed)
