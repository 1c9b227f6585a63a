"""How the figures of a step moved: recorded while it works, read back thinned out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from tuneforge_registry import Registry

from .figures import is_number
from .texts import shown

_FLUSHED = 1.0  # seconds after which what was written can be read: by whoever looks while it runs, or after it died
_WHOLE = 1 << 19  # bytes of a file that is read in full: some thousand points, which is more than a chart can show
_MOST = 2000  # points, about, that are read of a larger one


@dataclass(frozen=True)
class Point:
    """`done` of `total` parts of the work, `seconds` after it began, and the figures of that moment."""

    done: float
    total: float
    seconds: float
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """One figure over the work of a step: at `done[i]` of `total` parts, `seconds[i]` after it began, `values[i]`."""

    name: str
    total: float
    done: Sequence[float]
    seconds: Sequence[float]
    values: Sequence[float]


class Recorder:
    """Writes down how a step gets on: in a file for its figures and one for its samples, a line for the step's key,
    then one for each event.

    Nothing is synced and no file is made before the first event. A record that cannot be written is no reason to stop
    the work: `tell` gets a warning, once.
    """

    def __init__(self, folder: Path, step: str, key: str, tell: Callable[[str], None]) -> None:
        self._began = time.monotonic()
        self._points = _Lines(location(folder, step), key, tell, "its curves are")
        self._samples = _Lines(samples_location(folder, step), key, tell, "what it answered is")

    def __call__(self, done: float, total: float, figures: Mapping[str, Any]) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        self._points.write({"done": done, "total": total, "seconds": seconds, "figures": figures})

    def sample(self, done: float, prompt: str, answer: str) -> None:
        self._samples.write({"done": done, "prompt": prompt, "answer": answer})

    def close(self) -> None:
        self._points.close()
        self._samples.close()


class _Lines:
    """A file of JSON lines, made with the first of them. `what` is told to be lost if it cannot be written."""

    def __init__(self, path: Path, key: str, tell: Callable[[str], None], what: str) -> None:
        self._path, self._key, self._tell, self._what = path, key, tell, what
        self._file: TextIOWrapper | None = None
        self._broken = False
        self._flushed = time.monotonic()

    def write(self, entry: Mapping[str, Any]) -> None:
        if self._broken:
            return
        now = time.monotonic()
        try:
            if self._file is None:
                self._file = self._path.open("w", encoding="utf-8")
                self._file.write(json.dumps({"key": self._key}) + "\n")
            self._file.write(json.dumps(entry) + "\n")
            if now - self._flushed >= _FLUSHED:
                self._file.flush()
                self._flushed = now
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        if not self._broken:
            self._broken = True
            self._tell(f"warning: {self._what} not recorded: {error}")


def location(folder: Path, step: str) -> Path:
    """Where the points of a step lie in the folder of its run."""
    return folder / f"{step}.progress.jsonl"


def samples_location(folder: Path, step: str) -> Path:
    """Where the samples of a step lie in the folder of its run."""
    return folder / f"{step}.samples.jsonl"


def points_of(
    registry: Registry,
    run: str,
    step: str,
    key: str | None = None,
    digest: str | None = None,
    whole: bool = False,
) -> list[Point]:
    """The points of a step of a run, in the order of the work; none where none were recorded.

    Of a step that was cached they are those of the run that made its result. What an interrupted run did of the same
    work comes first where the step went on from there. Of a great many points only some, unless `whole`.
    """
    runs = registry.home / "runs"
    maker = run
    key, points = _read(location(runs / run, step), key, whole)
    if not points and digest is not None:
        for maker, name in registry.made_by(digest):
            _, points = _read(location(runs / maker, name), key, whole)
            if points:
                step = name
                break
    if key is None or not _resumed(points):
        return points
    return _with_earlier(runs, maker, step, key, points, whole)


def points_before(registry: Registry, run: str, step: str, key: str, done: float) -> list[Point]:
    """What interrupted runs before this one did of the same work, as far as `done` parts of it."""
    return _with_earlier(registry.home / "runs", run, step, key, [Point(done, 0, 0, {})], False)[:-1]


def curves_of(points: Sequence[Point]) -> tuple[Curve, ...]:
    """The curve of each figure, in the order in which they were first told."""
    names = dict.fromkeys(name for point in points for name in point.figures)
    found = []
    for name in names:
        having = [point for point in points if name in point.figures]
        found.append(
            Curve(
                name,
                max(point.total for point in having),
                [point.done for point in having],
                [point.seconds for point in having],
                [point.figures[name] for point in having],
            )
        )
    return tuple(found)


def _read(path: Path, key: str | None, whole: bool) -> tuple[str | None, list[Point]]:
    """What a file tells of the work of that key, or of the one that it names where none is given."""
    try:
        with path.open("rb") as file:
            named = _parsed(file.readline()).get("key")
            if key not in (None, named):
                return key, []
            return named, [
                point for line in _lines(file, path.stat().st_size, whole) if (point := _point(_parsed(line)))
            ]
    except FileNotFoundError:
        return key, []


def _lines(file: Any, size: int, whole: bool) -> Iterator[bytes]:
    """All lines of a small file; of a large one some, evenly spaced, the first and the last, and those that tell more
    figures than the line before: what is measured now and then is not to be lost."""
    if whole or size <= _WHOLE:
        yield from file
        return
    at = due = colons = 0
    line, taken = b"", True
    for line in file:
        at += len(line)
        before, colons = colons, line.count(b":")
        taken = at >= due or colons > before
        if taken:
            yield line
        if at >= due:
            due = at + size // _MOST
    if not taken:
        yield line


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:  # the last line of a run that was killed may be cut short
        return {}
    return found if isinstance(found, dict) else {}


def _point(found: Mapping[str, Any]) -> Point | None:
    done, total, seconds = (found.get(name) for name in ("done", "total", "seconds"))
    figures = found.get("figures")
    if not (is_number(done) and is_number(total) and is_number(seconds)):
        return None
    told = figures.items() if isinstance(figures, dict) else ()
    known = {shown(name): value for name, value in told if is_number(value)}
    return Point(float(done or 0), float(total or 0), float(seconds or 0), known)


def _resumed(points: Sequence[Point]) -> bool:
    """Whether the first point is not where the work begins."""
    return len(points) > 1 and points[0].done > 1.5 * (points[1].done - points[0].done) > 0


def _with_earlier(runs: Path, run: str, step: str, key: str, points: list[Point], whole: bool) -> list[Point]:
    """The points of a run with those before them of the runs before it."""
    earlier = (path for path in runs.glob(f"*/{step}.progress.jsonl") if path.parent.name < run)
    for path in sorted(earlier, reverse=True):  # a run's id begins with the time
        points = _joined(_read(path, key, whole)[1], points)
        if len(points) > 1 and not _resumed(points):
            break
    return points


def _joined(earlier: Sequence[Point], later: list[Point]) -> list[Point]:
    """What was done before `later` begins, then that; its seconds go on from there."""
    before = [point for point in earlier if point.done < later[0].done]
    spent = before[-1].seconds if before else 0.0
    return before + [Point(point.done, point.total, spent + point.seconds, point.figures) for point in later]
