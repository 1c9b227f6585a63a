"""Taking in an export: all of it is looked at before any of it is committed, and no name changes what it stands for."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import IO, Any

from tuneforge_registry import blobs, contents, files, locks, manifests, notes, refs, runs, untrusted
from tuneforge_registry.archive import Reader
from tuneforge_registry.contents import Contents, Named
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.exporting import Progress
from tuneforge_registry.manifests import FileEntry, Manifest


@dataclass(frozen=True)
class Imported:
    """What an import brought, or would bring.

    `contents` is all that came, names as they are here; `new` are the artifacts that were not here, `versions` those of
    names that were not, `kept` says what was left as it was here, in words.
    """

    contents: Contents
    new: tuple[str, ...]
    versions: tuple[str, ...]
    kept: tuple[str, ...]


def read(
    home: Path,
    stream: IO[bytes],
    names: Mapping[str | None, str],
    allow_pickle: Collection[str],
    dry_run: bool,
    progress: Progress | None,
) -> Imported:
    """Commit what an export holds, or only tell, once all of it has been read and looked at.

    `names` are other names for those in it; for None, one for what was exported without a name, or under only one.
    RegistryError, with nothing committed, for a file that is not whole or not safe (see `untrusted`), and for a version
    of a name that stands for something else here.
    """
    done = total = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    reader = Reader(stream, count)
    found = contents.read(reader.document())
    found = replace(found, names=_renamed(home, found, names))
    _bases_are_there(home, found)
    _plan(home, found)  # before gigabytes are read for nothing
    sizes = found.blobs()
    total = sum(sizes.values())
    with locks.workspace(home) as staging:
        _make_sure_of_room(home, sizes, staging)
        for sha256, size in sizes.items():
            _stage(home, FileEntry(sha256, size), reader, staging)
        reader.end()
        _look_at(found, staging, allow_pickle)
        with locks.store(home):
            _bases_are_there(home, found)
            imported = _plan(home, found)
            if not dry_run:
                blobs.commit(home, staging)
                _commit(home, found)
    return imported


def _renamed(home: Path, found: Contents, names: Mapping[str | None, str]) -> dict[str, Named]:
    for name in names.values():
        refs.check_name(name)
    given = dict(names)
    fresh = given.pop(None, None)
    if unknown := sorted(given.keys() - found.names.keys(), key=str):
        has = ", ".join(found.names) or "none"
        raise RegistryError(f"the file has no name {unknown[0]!r}", f"its names: {has}")
    if fresh is not None:
        if len(found.names) > 1:
            fix = "say which: " + ", ".join(f"--as {name}={fresh}" for name in list(found.names)[:3])
            raise RegistryError(f"the file has {len(found.names)} names", fix)
        if not found.names and len(found.asked) > 1:
            raise RegistryError(f"the file has {len(found.asked)} artifacts without a name", "import it; then tag them")
        given |= dict.fromkeys(found.names, fresh)
    renamed = {given.get(name, name): named for name, named in found.names.items()}
    if len(renamed) < len(found.names):
        raise RegistryError("two names of the file would be one", "give each a name of its own")
    return (
        renamed
        if fresh is None or found.names
        else {fresh: Named({_next(home, fresh, found.asked[0]): found.asked[0]})}
    )


def _next(home: Path, name: str, digest: str) -> int:
    """The version under which `name` has the artifact, or would have it if it were given to it now."""
    versions = refs.stored(home, name)
    known = [number for number, stands_for in versions.items() if stands_for == digest]
    return known[-1] if known else max(versions, default=0) + 1


def _make_sure_of_room(home: Path, sizes: Mapping[str, int], folder: Path) -> None:
    """OSError, before gigabytes are written for nothing, if they do not fit."""
    needed = sum(size for sha256, size in sizes.items() if not blobs.holds(home, FileEntry(sha256, size)))
    if needed > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _bases_are_there(home: Path, found: Contents) -> None:
    for digest, manifest in found.artifacts.items():
        if manifest.base and manifest.base not in found.artifacts and not manifests.exists(home, manifest.base):
            problem = f"the {manifest.kind} {digest[:12]} sits on {manifest.base[:12]}"
            raise RegistryError(f"{problem}, which is neither in the file nor here", "import that first")


def _stage(home: Path, entry: FileEntry, reader: Reader, staging: Path) -> None:
    target = staging / entry.sha256
    if blobs.holds(home, entry):
        try:
            target.hardlink_to(blobs.location(home, entry.sha256))  # so it stays here, whatever gc does meanwhile
        except OSError:
            pass
        else:
            reader.blob(entry.sha256, entry.size, None)
            return
    with target.open("xb") as file:
        reader.blob(entry.sha256, entry.size, file)
        file.flush()
        os.fsync(file.fileno())
    target.chmod(0o444)


def _look_at(found: Contents, staging: Path, allow_pickle: Collection[str]) -> None:
    refusals, looked = [], set[tuple[str, str, bool]]()
    for manifest in found.artifacts.values():
        for path, entry in manifest.files.items():
            # A content may be there a million times: its name counts only for how it ends.
            case = (entry.sha256, path[-12:].lower(), path in allow_pickle)
            if case not in looked:
                looked.add(case)
                if refusal := untrusted.content_problem(staging / entry.sha256, path, allow_pickle):
                    refusals.append(refusal)
    untrusted.refuse(refusals)


def _plan(home: Path, found: Contents) -> Imported:
    """What would change here; RegistryError if a version of a name would."""
    versions, kept = [], []
    for name, named in found.names.items():
        here = refs.named(home, name)
        for number, digest in named.versions.items():
            if not (at := _version_file(home, name, number)).exists():
                versions.append(f"{name}@v{number}")
            elif (stands_for := at.read_text(encoding="utf-8", errors="replace").strip()) != digest:
                problem = f"{name}@v{number} is {stands_for[:12]} here and {digest[:12]} in the file"
                fix = "a version never changes: import it under another name, " + f"--as {name}=NAME"
                raise RegistryError(problem, fix)
        for alias, number in named.aliases.items():
            stays = here.aliases.get(alias, number) if here else number
            if stays != number:
                kept.append(f"{name}@{alias} stays v{stays} (in the file it is v{number})")
        for number, said in named.about.items():
            if notes.path(refs.folder(home, name), number).exists() and not (here and here.about.get(number) == said):
                kept.append(f"what is said here of {name}@v{number}, its tags and note, stays")
    for run_id, record in found.runs.items():
        if (other := _run_id(home, run_id, record)) != run_id:
            kept.append(f"another run {run_id} is here: that of the file becomes {other}")
    new = tuple(digest for digest in found.artifacts if not manifests.exists(home, digest))
    return Imported(found, new, tuple(versions), tuple(kept))


def _commit(home: Path, found: Contents) -> None:
    """In an order in which no process that dies leaves anything that stands for what is not there."""
    for manifest in _bases_first(found.artifacts):
        manifests.commit(home, manifest)
    for digest, manifest in found.ancestors.items():
        if manifests.told(home, digest) is None:
            files.replace(home, home / manifests.ANCESTORS / f"{digest}.json", manifest.text)
    for run_id, record in found.runs.items():
        identity = _run_id(home, run_id, record)
        if not runs.location(home, identity).exists():
            runs.write(home, identity, runs.portable(home, record))
    for name, named in found.names.items():
        for number, digest in named.versions.items():
            at = _version_file(home, name, number)
            try:
                files.create(home, at, digest + "\n")
            except FileExistsError:  # it is there already, or another machine, which no lock reaches, was faster
                if at.read_text(encoding="utf-8", errors="replace").strip() != digest:
                    raise RegistryError(f"{name}@v{number} was given to another just now", "import it again") from None
        for number, said in named.about.items():
            if not notes.path(refs.folder(home, name), number).exists():
                notes.write(home, refs.folder(home, name), number, said)
        for alias, number in named.aliases.items():
            if not (at := refs.folder(home, name) / f"@{alias}").exists():
                files.replace(home, at, f"v{number}\n")


def _bases_first(artifacts: Mapping[str, Manifest]) -> list[Manifest]:
    ordered: dict[str, Manifest] = {}
    for digest in artifacts:
        chain: list[Manifest] = []
        at = artifacts.get(digest)
        while at is not None and at.digest not in ordered:
            chain.append(at)
            at = artifacts.get(at.base or "")
        ordered |= {below.digest: below for below in reversed(chain)}
    return list(ordered.values())


def _run_id(home: Path, run_id: str, record: Mapping[str, Any]) -> str:
    """The id under which a record belongs here: its own, unless another run has that."""
    text = runs.text(runs.portable(home, record))
    if not runs.location(home, run_id).exists():
        return run_id
    with contextlib.suppress(RegistryError):  # what is here may be damaged
        if runs.text(runs.portable(home, runs.read(home, run_id))) == text:
            return run_id
    return f"{run_id[:180]}.{sha256_of(text.encode()).hexdigest()[:12]}"


def _version_file(home: Path, name: str, number: int) -> Path:
    return refs.folder(home, name) / f"v{number}"
