"""What every process that tuneforge starts does: it ends with its starter, tells events, and is handed artifacts."""

from __future__ import annotations

import contextlib
import ctypes
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

_PR_SET_PDEATHSIG = 1
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def settings(threads: int, python_path: str | None) -> dict[str, str]:
    """The environment variables of such a process; `python_path` is the folder that packages are lent to it through."""
    found = dict(os.environ) | {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
    found |= dict.fromkeys(_THREAD_SETTINGS, str(threads))
    # Libraries ask on import whether there is a GPU; unless torch answers by NVML, no fork could use the GPU then.
    found["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    if python_path:
        found["PYTHONPATH"] = python_path
    return found


def die_with(lifeline: int, children: Collection[int]) -> None:
    """Ends this process and all it has started when its starter is gone.

    `lifeline` is a pipe that nobody writes to: it closes when the starter ends, however it does. A server does it for
    its children too: native code may never let a child's own thread come to it.
    """
    os.read(lifeline, 1)
    for child in tuple(children):
        kill_group(child)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def die_with_parent() -> None:
    """Has the system end this process when the thread that started it ends, whatever code it is in. Linux alone can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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


def how_it_died(number: int, status: int) -> tuple[str, str]:
    """What to tell of a process that ended by the signal of that number, or with that exit code: problem and fix."""
    if not number:
        return f"its process ended with exit code {status} and no word", "See the step's log."
    name = signal.Signals(number).name
    if number == signal.SIGKILL:
        return (
            f"its process was killed ({name})",
            "Most often the system ran out of memory: lower the batch size or the lengths, or free memory.",
        )
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGFPE):
        return f"its process crashed in native code ({name})", "The step's log shows where."
    return f"its process was ended by {name}", "Run the same command again: finished steps are kept."


def artifact(kinds: tuple[type[Artifact], ...], given: Mapping[str, Any]) -> Artifact:
    """The artifact as one of `kinds`, so that no other plugin need be importable here."""
    known = {kind.kind: kind for kind in (*kinds, *_below(Artifact))}
    cls = next(known[name] for name in given["kinds"] if name in known)
    base = given.get("base")
    return cls(Path(given["path"]), given["digest"], artifact((), base) if base else None)


def _below(kind: type[Artifact]) -> list[type[Artifact]]:
    return [found for sub in kind.__subclasses__() for found in (*_below(sub), *([sub] if "kind" in vars(sub) else []))]
