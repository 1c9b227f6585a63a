"""One portable file with everything that artifacts need, and how they came to be."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tuneforge_registry import blobs, contents, files, lineage, manifests, refs, runs
from tuneforge_registry.archive import Writer
from tuneforge_registry.contents import Contents, Named
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.lineage import Lineage
from tuneforge_registry.manifests import Manifest
from tuneforge_registry.refs import Name

Progress = Callable[[int, int], None]
"""Called with the bytes done so far and the bytes to do."""


@dataclass(frozen=True)
class Exported:
    """What went into an export, and `missing`: ancestors whose files were asked for and are not here any more."""

    contents: Contents
    bytes: int
    missing: tuple[str, ...]


def write(
    home: Path, digests: Iterable[str], stream: IO[bytes], with_ancestors: bool, progress: Progress | None
) -> Exported:
    """Write artifacts, what they sit on, their names and their lineage to `stream`; the same content, the same bytes.

    Of what they were made from there are records and manifests only, unless `with_ancestors`. RegistryError if
    something is damaged: then what was written is to be thrown away.
    """
    with _kept(home):
        found, missing = gather(home, list(digests), with_ancestors)
        told = found.text()
        contents.read(told)  # what nobody could import, for a name that some systems cannot hold, is not exported
        sizes = found.blobs()
        total, done = sum(sizes.values()), 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(done, total)

        writer = Writer(stream, count)
        writer.document(told)
        for sha256, size in sizes.items():
            with blobs.location(home, sha256).open("rb") as blob:
                if not writer.blob(sha256, size, blob):
                    path = blobs.location(home, sha256)
                    raise RegistryError(f"{path} is damaged", "see `tuneforge registry verify`; then export again")
        writer.end()
    return Exported(found, total, tuple(missing))


@contextlib.contextmanager
def _kept(home: Path) -> Iterator[None]:
    """Keeps gc from what is looked at meanwhile. Where nothing can be written, nothing is collected either."""
    from tuneforge_registry import locks

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.workspace(home))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
        yield


def gather(home: Path, digests: list[str], with_ancestors: bool) -> tuple[Contents, list[str]]:
    """What an export of these artifacts tells, and which ancestors are asked for and not here in full."""
    names = refs.names(home)
    named = {digest for stands_for in names.values() for digest in stands_for.versions.values()}
    artifacts = _with_bases(home, digests, named)
    traced = [lineage.trace(home, digest) for digest in artifacts]
    origins = {node.digest: node for node in _nodes(traced)}
    known = {digest: manifests.told(home, digest) for digest in origins}
    missing = []
    if with_ancestors:
        for digest in sorted(origins.keys() - artifacts.keys()):
            if _is_whole(home, digest):
                artifacts |= _with_bases(home, [digest], named)
            else:
                missing.append(digest)
    ancestors = {digest: told for digest, told in known.items() if told and digest not in artifacts}
    records = {node.run for node in origins.values() if node.run}
    found = Contents(
        tuple(dict.fromkeys(digests)),
        artifacts,
        {digest: told for digest, told in ancestors.items() if contents.is_acceptable(told)},
        _names(names, artifacts),
        {run_id: runs.portable(home, runs.read(home, run_id)) for run_id in records},
    )
    return found, missing


def _with_bases(home: Path, digests: Iterable[str], named: Container[str] = ()) -> dict[str, Manifest]:
    """What is `named`, and what that sits on, gc spares; only to the rest does it have to be told, as if put again."""
    found: dict[str, Manifest] = {}
    for digest in sorted(digests, key=lambda digest: digest not in named):
        at: str | None = digest
        while at is not None and at not in found:
            found[at] = manifests.read(home, at)
            if digest not in named:
                files.touch(manifests.location(home, at))
            for path, entry in found[at].files.items():
                if not blobs.holds(home, entry):
                    problem = f"{path} of the {found[at].kind} {at[:12]} is gone or cut short"
                    raise RegistryError(problem, "run the recipe that made it again")
            at = found[at].base
    return found


def _is_whole(home: Path, digest: str) -> bool:
    try:
        return bool(_with_bases(home, [digest], [digest]))
    except RegistryError:
        return False


def _nodes(roots: Iterable[Lineage]) -> Iterator[Lineage]:
    """Everything that went into them, themselves included, each once."""
    seen: set[str] = set()
    todo = list(roots)
    while todo:
        at = todo.pop()
        if at.digest not in seen:
            seen.add(at.digest)
            yield at
            todo += [source for sources in at.inputs.values() for source in sources] + ([at.base] if at.base else [])


def _names(known: Mapping[str, Name], artifacts: dict[str, Manifest]) -> dict[str, Named]:
    """The names of what is exported, with those of their versions that are."""
    found = {}
    for name, stands_for in known.items():
        versions = {number: digest for number, digest in stands_for.versions.items() if digest in artifacts}
        if versions:
            aliases = {alias: number for alias, number in stands_for.aliases.items() if number in versions}
            about = {number: said for number, said in stands_for.about.items() if number in versions}
            found[name] = Named(versions, aliases, about)
    return found
