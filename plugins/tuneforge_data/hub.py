"""Data sets of the Hugging Face Hub, as options see them: which commit, which files, and what is wrong with that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from tuneforge import Finding, StepError
from tuneforge.kit.hub import CLIENT, COMMIT

EVERYTHING = "**/*"
_ABOUT = {"readme.md", "dataset_infos.json", "dataset_dict.json", "state.json", "license.md", "license.txt"}
"""Files that tell of a data set and hold none of its rows."""
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation"),
}
_UNREAD = frozenset(
    {".arrow", ".feather", ".avro", ".orc", ".zst", ".lz4", ".bz2", ".xz", ".7z", ".zip", ".tar", ".tgz"}
)
"""Files that hold rows, as a rule, and that are not read here."""
_WORD = {word: split for split, words in _SPLITS.items() for word in words}


@dataclass(frozen=True)
class Seen:
    """A data set at a commit: the files that are to be read, and the folder of the Hub's cache once they are there."""

    commit: str
    names: tuple[str, ...] = ()
    folder: Path | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """Which files of a data set are read: those whose names match a pattern and end as `suffixes` say."""

    repo: str
    revision: str
    pattern: str
    suffixes: frozenset[str]

    def look(self) -> Seen:
        """Asks the Hub, or its cache, without fetching more than a plan has time for."""
        try:
            from .hub_client import look
        except ImportError as error:
            # A commit needs no look-up: the step then runs in an environment that has the client.
            problem = f"{self.revision} of {self.repo} cannot be looked up on the Hub: {error}"
            fix = f"Install '{CLIENT}' here too, or write the full commit as revision."
            pinned = COMMIT.fullmatch(self.revision)
            return Seen(self.revision, findings=() if pinned else (Finding(problem, fix, field="revision"),))
        return look(self)

    def fetch(self) -> tuple[Path, Sequence[str]]:
        """The files in the Hub's cache, brought there if they are not. Raises StepError."""
        from .hub_client import fetch

        return fetch(self)

    def of(self, names: Collection[str]) -> list[str]:
        """Those of these files that are wanted, in the order of their names."""
        matches = _pattern(self.pattern)
        return sorted(name for name in names if matches.fullmatch(name) and self._holds_rows(name))

    def problems(self, names: Collection[str]) -> Iterator[Finding]:
        """What is wrong with the files of the repository."""
        wanted = self.of(names)
        known = ", ".join(sorted(self.suffixes))
        if not wanted:
            which = "" if self.pattern == EVERYTHING else f" that matches {self.pattern}"
            there = sorted(name for name in names if self._holds_rows(name))
            fix = f"It has {', '.join(there[:5])}." if there else f"Rows are read from {known}."
            yield Finding(f"{self.repo} holds no file of rows{which}", fix, field="files" if which else "repo")
        unread = [name for name in sorted(names) if suffix(name) in _UNREAD]
        if wanted and unread and self.pattern == EVERYTHING:
            yield Finding(
                f"{self.repo} has {len(unread)} files that are not read here, such as {unread[0]}",
                f"Rows are read from {known} alone: say which files are meant, such as files: '{wanted[0]}'.",
                level="warning",
                field="files",
            )
        splits = Counter(split for name in wanted if (split := _split(name)))
        if len(splits) > 1 and self.pattern == EVERYTHING:
            told = ", ".join(f"{split} ({count} file{'s' if count > 1 else ''})" for split, count in splits.items())
            word = next(name for name in wanted if _split(name) == next(iter(splits)))
            yield Finding(
                f"{self.repo} has several splits: {told}, and a model must not learn what it is tested on",
                f"Say which files are meant, such as files: '{word}'.",
                field="files",
            )

    def _holds_rows(self, name: str) -> bool:
        path = PurePosixPath(name)
        hidden = any(part.startswith(".") for part in path.parts)  # or out of the repository
        return (
            not hidden and not path.is_absolute() and path.name.lower() not in _ABOUT and suffix(name) in self.suffixes
        )


def refuse(found: Sequence[Finding]) -> None:
    """Raises StepError for the first finding that is an error."""
    for finding in found:
        if finding.level == "error":
            raise StepError(finding.problem, finding.fix)


def suffix(name: str) -> str:
    """By which a file is known, whether it is packed or not."""
    return PurePosixPath(name.lower().removesuffix(".gz")).suffix


def _split(name: str) -> str | None:
    return next((_WORD[word] for word in re.split(r"[^a-z]+", name.lower()) if word in _WORD), None)


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of files as a folder's `glob` has it."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^]/]+\])", pattern)
    return re.compile("".join(signs.get(part) or _letters(part) or re.escape(part) for part in parts))


def _letters(part: str) -> str:
    """One letter of several, `[0-4]` or `[!0-4]`; empty for anything else."""
    if not (part.startswith("[") and part.endswith("]") and len(part) > 2):
        return ""
    among = part[1:-1]
    inside = among.removeprefix("!").replace("\\", "\\\\").replace("^", "\\^").replace("[", "\\[")
    return f"[^/{inside}]" if among.startswith("!") else f"[{inside}]"
