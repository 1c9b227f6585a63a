"""What every process that tuneforge starts does: it ends with its starter, tells events, and is handed artifacts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .artifacts import Artifact
from .errors import TuneforgeError


def die_with(lifeline: int, children: Collection[int]) -> None:
    """Ends this process and all it has started when its starter is gone.

    `lifeline` is a pipe that nobody writes to: it closes when the starter ends, however it does. A server does it for
    its children too: native code may never let a child's own thread come to it.
    """
    os.read(lifeline, 1)
    for child in tuple(children):
        kill_group(child)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def kill_group(pid: int) -> None:
    """Ends a process that leads its group, with the whole group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # already gone
        os.killpg(pid, signal.SIGKILL)


def await_group(pid: int, seconds: float) -> None:
    """Waits until a process group is gone, or that long: what was killed writes on until the system comes to it."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < end:
            os.killpg(pid, 0)
            time.sleep(0.005)


def send(events: int, event: Mapping[str, Any]) -> None:
    """Writes an event to a pipe, as a line of JSON."""
    data = (json.dumps(event) + "\n").encode()
    while data:
        data = data[os.write(events, data) :]


def failure(error: BaseException) -> dict[str, Any]:
    """The event that tells of an error; its traceback is also printed."""
    trace = "".join(traceback.format_exception(error))
    print(trace, file=sys.stderr, flush=True)
    if isinstance(error, TuneforgeError):
        problem, fix = error.finding.problem, error.finding.fix
    else:
        problem, fix = f"{type(error).__name__}: {error}".strip(": "), ""
    return {"event": "failed", "problem": problem, "fix": fix, "traceback": trace}


def exited_with(code: int) -> dict[str, Any]:
    """The event that tells how a process ended: by its exit code, or by minus the signal that ended it."""
    return {"event": "exited", "signal": max(0, -code), "status": max(0, code)}


def artifact(kinds: tuple[type[Artifact], ...], given: Mapping[str, Any]) -> Artifact:
    """The artifact as one of `kinds`, so that no other plugin need be importable here."""
    known = {kind.kind: kind for kind in (*kinds, *_below(Artifact))}
    cls = next(known[name] for name in given["kinds"] if name in known)
    base = given.get("base")
    return cls(Path(given["path"]), given["digest"], artifact((), base) if base else None)


def _below(kind: type[Artifact]) -> list[type[Artifact]]:
    return [found for sub in kind.__subclasses__() for found in (*_below(sub), *([sub] if "kind" in vars(sub) else []))]
