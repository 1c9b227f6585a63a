"""What can be asked of the index, and what it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

Comparison = Literal[">=", "<=", ">", "<", "=", "!="]


class Stored(NamedTuple):
    """An artifact as the index lists it: `size` in bytes, `created` when it was last put."""

    digest: str
    kind: str
    base: str | None
    size: int
    created: datetime


class Version(NamedTuple):
    """One version of a name, and what is said of it. `named` is when it was given."""

    name: str
    number: int
    digest: str
    named: datetime
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    note: str

    def __str__(self) -> str:
        return f"{self.name}@v{self.number}" + "".join(f" @{alias}" for alias in self.aliases)


class Score(NamedTuple):
    """A figure that the artifact `report` gives to the artifact `subject`; `passed` is the verdict of that report."""

    report: str
    subject: str
    metric: str
    value: float
    passed: bool


@dataclass(frozen=True)
class Wanted:
    """What an artifact must be to be found: all that is given here. `name` may have `*` and `?`.

    `base` and `data` are a digest, or what a step names that loads a model or makes data of a source: a repository, a
    file. What was made of them is found, however far down, and what sits on them. Of all that, the `limit` newest.
    """

    kind: str | None = None
    name: str | None = None
    tag: str | None = None
    metrics: tuple[tuple[str, Comparison, float], ...] = ()
    base: str | None = None
    data: str | None = None
    limit: int | None = None
