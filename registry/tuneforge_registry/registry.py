"""The registry: where artifacts, names, versions, aliases, runs and the step cache live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from tuneforge_registry import blobs, files, manifests, notes, refs, runs, steps, trees
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.found import Score, Stored, Version, Wanted
from tuneforge_registry.manifests import FileEntry, Manifest
from tuneforge_registry.notes import About
from tuneforge_registry.refs import Name

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from tuneforge_registry.exporting import Exported
    from tuneforge_registry.gc import Collection
    from tuneforge_registry.importing import Imported
    from tuneforge_registry.lineage import Lineage
    from tuneforge_registry.removal import Removal
    from tuneforge_registry.verify import Damage, Progress

Answer = TypeVar("Answer")


class Registry:
    """The store under `home`, a folder that need not exist before something is written.

    Any number of processes may use one home at once, and any of them may be killed at any time: what was committed
    stays readable, what was not leaves nothing but garbage that `gc` finds. What a registry refuses, and damage it
    meets, are RegistryErrors; what the system refuses (a full disk, a read-only one) are OSErrors.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()

    # Artifacts

    def put(self, folder: Path, kind: str, base: str | None = None) -> str:
        """Commit a finished folder as an artifact and give its digest; the folder is gone afterwards.

        Its files become blobs by hard link, and read-only: bytes are hashed once and copied never, unless `folder` is
        on another filesystem, or on one that can neither link nor clone. (Who keeps another hard link to one of them
        must not write through it.) Putting the same again is harmless. Refused: a folder without files, a link that
        leaves it, anything but files and folders, and a `base` that is not here.
        """
        import shutil

        from tuneforge_registry import locks

        self._check_apart(folder)
        if base is not None:
            self.manifest(base)
        sources = blobs.survey(folder)
        with locks.workspace(self.home) as staging:
            staged = {source: blobs.stage(source, staging) for source in dict.fromkeys(sources.values())}
            manifest = Manifest(kind, base, {path: staged[source] for path, source in sources.items()})
            with locks.store(self.home):
                if base is not None:  # gc may have come by since
                    self.manifest(base)
                blobs.commit(self.home, staging)
                manifests.commit(self.home, manifest)
        shutil.rmtree(folder)
        return manifest.digest

    def assemble(self, kind: str, base: str | None, files: Mapping[str, FileEntry], fresh: Mapping[str, Path]) -> str:
        """Commit an artifact out of blobs that are here and of `fresh` files, hashed already, by their sha256.

        Bytes are neither hashed nor copied. RegistryError if some are neither here nor fresh, and as for `put`.
        """
        from tuneforge_registry import assembly

        return assembly.assemble(self.home, kind, base, files, fresh)

    def _check_apart(self, folder: Path) -> None:
        """RegistryError if consuming `folder` would consume the registry, or part of it."""
        home, inside = self.home.resolve(), folder.resolve()
        rooms = (home / "tmp", home / "scratch", home / "trees")
        apart = not inside.is_relative_to(home) or any(room in inside.parents for room in rooms)
        if home.is_relative_to(inside) or not apart:
            problem = f"{folder} holds the registry or belongs to it"
            raise RegistryError(problem, "give the folder that a step has written")

    def manifest(self, digest: str) -> Manifest:
        """What the artifact `digest` (in full) is; RegistryError if it is not here or its manifest is damaged."""
        return manifests.read(self.home, digest)

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and manifests.exists(self.home, digest)

    def tree(self, digest: str) -> Path:
        """The artifact as a folder, to be read and never written: its files are the blobs themselves, hard-linked."""
        return trees.ready(self.home, self.manifest(digest))

    def artifacts(self, wanted: Wanted | None = None) -> list[Stored]:
        """Every artifact, or those that are wanted, newest first.

        One with a damaged manifest is left out here, and reported by `verify`.
        """
        from tuneforge_registry import search

        return search.artifacts(self.home, wanted or Wanted())

    def scores(self, digest: str | None = None) -> list[Score]:
        """The figures that reports here give, to all artifacts or to one; those of the newest report first."""
        from tuneforge_registry import search

        return search.scores(self.home, digest)

    def users(self, digest: str) -> list[str]:
        """The artifacts here that were made of this one, or that sit on it."""
        from tuneforge_registry import search

        return search.users(self.home, digest)

    def remove_artifact(self, digest: str, dry_run: bool) -> Removal:
        """Remove an artifact now, with the files that no other has; or only tell.

        RegistryError, unless `dry_run`, if another sits on it, a name stands for it, or a run uses it.
        """
        from tuneforge_registry import removal

        return removal.artifact(self.home, digest, dry_run)

    def ask(self, questions: Callable[[], Answer]) -> Answer:
        """What `questions` gives, which asks several questions of this registry: the index is looked after once.

        That is most of the time of a question when there are many artifacts. They may all be asked twice.
        """
        from tuneforge_registry import index

        return index.ask_all(self.home, questions)

    # Step cache

    def result_of(self, key: str) -> str | None:
        """The artifact that the step `key` gave, if it is all there (by size; bytes are `verify`'s business)."""
        return steps.result(self.home, key)

    def remember(self, key: str, digest: str) -> None:
        """Note that the step `key` gave the artifact `digest`, which must be here."""
        steps.remember(self.home, key, digest)

    # Names

    def tag(self, name: str, digest: str, alias: str | None = None) -> int:
        """Make `digest` the newest version of `name`, and `alias` point there; gives the version's number.

        Versions are 1, 2, ... and never change. If `digest` is the newest version already, it stays that one.
        """
        return refs.tag(self.home, name, digest, alias)

    def resolve(self, ref: str) -> str:
        """The digest meant by `name` (newest version), `name@v3`, `name@production`, or a digest's first 6+ digits.

        A name may be in a namespace, as `team/orders`. A name goes before a digest that begins like it.
        """
        return refs.resolve(self.home, ref)

    def version_of(self, ref: str) -> tuple[str, int, str] | None:
        """The name, version number and digest that a reference by name means; None if it is none by name."""
        return refs.version_of(self.home, ref)

    def names(self) -> dict[str, Name]:
        """Every name's versions, aliases, tags and notes, as the files have them."""
        return refs.names(self.home)

    def versions(self, digest: str | None = None) -> list[Version]:
        """The same by version, of all names or of one artifact, as the index has them: quick when there are many."""
        from tuneforge_registry import search

        return search.versions(self.home, digest)

    def called(self) -> dict[str, list[str]]:
        """What each named artifact is called, such as `orders@v3 @production`, by digest."""
        from tuneforge_registry import search

        return search.called(self.home)

    def place(self, name: str, version: int, digest: str, alias: str | None = None) -> None:
        """Make `digest` a version with this very number, as it is in another registry; and `alias` point there.

        RegistryError if the number stands for something else here, or was removed.
        """
        refs.place(self.home, name, version, digest, alias)

    def point(self, name: str, version: int, alias: str) -> None:
        """Let an alias stand for a version that is there."""
        refs.point(self.home, name, version, alias)

    def describe(
        self, name: str, version: int, add: Iterable[str] = (), drop: Iterable[str] = (), note: str | None = None
    ) -> About:
        """Add and drop tags of a version, and replace its note unless that is None; gives what is said of it now."""
        return refs.describe(self.home, name, version, add, drop, note)

    def check_words(self, aliases: Iterable[str] = (), tags: Iterable[str] = (), note: str | None = None) -> None:
        """RegistryError for what can be no alias, no tag or no note: to be asked before anything is changed."""
        for alias in aliases:
            refs.check_alias(alias)
        notes.check(tags, note)

    def remove_name(self, name: str, version: int | None = None) -> None:
        """Remove a version of a name, or the whole name, with the aliases that stand for it.

        The artifacts stay, for gc to take once they are old; the numbers are never used again.
        """
        refs.remove(self.home, name, version)

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias; what it stands for stays."""
        refs.remove_alias(self.home, name, alias)

    # Runs

    def write_run(self, run_id: str, record: Mapping[str, Any]) -> None:
        """Write or replace the record of a run, a JSON document."""
        runs.write(self.home, run_id, record)

    def run_folder(self, run_id: str) -> Path:
        """The folder for a run's logs, made if need be."""
        folder = runs.folder(self.home, run_id)
        files.make_folder(folder)
        return folder

    def run(self, run_id: str) -> dict[str, Any]:
        """The record of a run, as written; but one that tells `running` and was killed tells `interrupted`."""
        return runs.now(self.home, run_id, runs.read(self.home, run_id))

    def runs(self) -> dict[str, dict[str, Any]]:
        """Every run's record by run id, as `run` gives it, newest first: by the record's `started`, then by id."""
        return runs.newest_first(self.home)

    def made_by(self, digest: str) -> list[tuple[str, str]]:
        """(run id, step name) of every recorded step that gave `digest`, newest run first."""
        from tuneforge_registry import lineage

        return lineage.made_by(self.home, digest)

    def makers(self) -> dict[str, tuple[str, str]]:
        """(run id, step name) of the newest recorded step that made each artifact."""
        from tuneforge_registry import search

        return search.makers(self.home)

    def origin(self, digest: str) -> tuple[str | None, Mapping[str, Any] | None]:
        """The run that made `digest` and the record of its step; None for what no recorded run has made."""
        from tuneforge_registry import lineage

        return lineage.origin(self.home, digest)

    def lineage(self, digest: str) -> Lineage:
        """How `digest` came to be, through recorded steps and their inputs, and through bases."""
        from tuneforge_registry import lineage

        return lineage.trace(self.home, digest)

    # Room to work

    def workspace(self) -> AbstractContextManager[Path]:
        """A fresh empty folder on the registry's filesystem, gone at the end; gc spares it while this process lives."""
        from tuneforge_registry import locks

        return locks.workspace(self.home)

    def scratch(self, key: str) -> Path:
        """The folder of a step key that survives crashes, for checkpoints; made if need be, for gc to take when old."""
        folder = self.home / "scratch" / files.plain("a step key", key)
        files.make_folder(folder)
        files.touch(folder)
        return folder

    def lock(self, name: str) -> BaseFileLock:
        """A lock between processes, to hold with `with`; it ends with its process.

        While it is held, gc keeps everything that was put, asked for or opened since. A run should hold one.
        """
        from tuneforge_registry import locks

        return locks.lock(self.home, files.plain("a lock's name", name))

    def run_lock(self, run_id: str) -> BaseFileLock:
        """The lock by which others see that a run lives: to be held from before its record tells `running`."""
        return self.lock(runs.lock_name(run_id))

    # Elsewhere

    def export_to(
        self,
        stream: IO[bytes],
        digests: Iterable[str],
        with_ancestors: bool = False,
        progress: Progress | None = None,
    ) -> Exported:
        """Write artifacts with what they sit on, their names, and how they came to be: one portable file.

        The same content gives the same bytes. Of what they were made from there are only records, unless
        `with_ancestors`.
        """
        from tuneforge_registry import exporting

        return exporting.write(self.home, digests, stream, with_ancestors, progress)

    def import_from(
        self,
        stream: IO[bytes],
        names: Mapping[str | None, str] | None = None,
        allow_pickle: Iterable[str] = (),
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Imported:
        """Commit what an export holds, or only tell; RegistryError, and nothing committed, if it is not whole or safe.

        `names` are other names for those in it, by these; by None, for the only one. No version here ever changes.
        """
        from tuneforge_registry import importing

        return importing.read(self.home, stream, names or {}, frozenset(allow_pickle), dry_run, progress)

    # Housekeeping

    def tidy(self) -> None:
        """Remove what killed processes have left and nothing can use any more; a fraction of what `gc` does."""
        from tuneforge_registry import gc

        gc.tidy(self.home)

    def verify(self, progress: Progress | None = None, digest: str | None = None) -> list[Damage]:
        """Hash every blob and follow every pointer; says what is damaged or missing, and what that touches.

        With a `digest`, only what that artifact needs and what stands for it.
        """
        from tuneforge_registry import verify

        return verify.check(self.home, progress, digest)

    def gc(
        self,
        dry_run: bool,
        older_than: timedelta = timedelta(days=1),
        progress: Callable[[int, int], None] | None = None,
    ) -> Collection:
        """Remove, or only tell, what is not named, not recent, not in use and no base of such."""
        from tuneforge_registry import gc

        return gc.collect(self.home, dry_run, older_than, progress)

    def reindex(self) -> None:
        """Build the index anew from the files."""
        from tuneforge_registry import index

        index.discard(self.home)
        self.artifacts()
