"""One step, in its own process.

`python -m tuneforge.worker REQUESTS EVENTS LIFELINE` (file descriptors) is a server: for every request it imports the
step's plugin and engine once, then forks, so that the imports are paid once a run and no step inherits another's state.
Events go out as JSON lines. LIFELINE is a pipe that nobody writes to: when the run dies it closes, and so do we.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Collection, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from .artifacts import Artifact
from .errors import TuneforgeError
from .inputs import inputs_of
from .plugins import import_file
from .stages import Config, Method
from .step import Step


def serve(requests: int, events: int, lifeline: int) -> None:
    """Carries out requests until there are no more."""
    running: set[int] = set()
    threading.Thread(target=_die_with, args=(lifeline, running), daemon=True).start()
    with os.fdopen(requests, encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            _redirect(Path(request["log"]))
            started = time.monotonic()
            try:
                method = _method(request)
                if method.engine:
                    importlib.import_module(method.engine)
            except BaseException as error:  # whatever an import may raise is a failed step, told with its traceback
                _send(events, _failure(error))
                _send(events, {"event": "exited", "signal": 0, "status": 1, "peak_memory": 0})
                continue
            imported = time.monotonic() - started
            child = os.fork()
            if child == 0:
                os._exit(_work(request, method, events, lifeline))
            running.add(child)
            _send(events, {"event": "forked", "pid": child, "import_seconds": imported})
            _, status, usage = os.wait4(child, 0)
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing that a step started outlives it
                os.killpg(child, signal.SIGKILL)
            running.discard(child)
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            code = os.waitstatus_to_exitcode(status)
            _send(events, {"event": "exited", "signal": max(0, -code), "status": max(0, code), "peak_memory": peak})


def _work(request: Mapping[str, Any], kind: type[Method], events: int, lifeline: int) -> int:
    os.setsid()
    threading.Thread(target=_die_with, args=(lifeline, ()), daemon=True).start()
    faulthandler.enable()
    try:
        method = kind(**request["config"])
        Config.reads.clear()  # what validators look at is not read by the step
        step = Step(
            name=request["name"],
            out=Path(request["out"]),
            scratch=Path(request["scratch"]),
            seed=request["seed"],
            threads=request["threads"],
            send=lambda event: _send(events, event),
            lineage=request["lineage"],
        )
        started = time.monotonic()
        method.run(**_inputs(kind, request["inputs"]), step=step)
        worked = time.monotonic() - started
        reads = sorted(Config.reads)
        done = {"base": step.base, "metrics": step.figures, "reads": reads, "work_seconds": worked}
        _send(events, {"event": "done", **done})
        status = 0
    except BaseException as error:
        _send(events, _failure(error))
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status


def _method(request: Mapping[str, Any]) -> type[Method]:
    if request["file"]:
        import_file(Path(request["file"]))  # under the very name that it has in the run's own process
    method: type[Method] = attrgetter(request["class"])(importlib.import_module(request["module"]))
    return method


def _inputs(kind: type[Method], given: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for name, wanted in inputs_of(kind).items():
        artifacts = [_artifact(wanted.kinds, one) for one in given.get(name, [])]
        if wanted.many and (artifacts or wanted.required):
            inputs[name] = artifacts
        elif artifacts:
            inputs[name] = artifacts[0]
    return inputs


def _artifact(kinds: tuple[type[Artifact], ...], given: Mapping[str, Any]) -> Artifact:
    """The artifact as the method's annotation calls it, so that no other plugin need be importable here."""
    known = {kind.kind: kind for kind in (*kinds, *_below(Artifact))}
    cls = next(known[name] for name in given["kinds"] if name in known)
    base = given.get("base")
    return cls(Path(given["path"]), given["digest"], _artifact((), base) if base else None)


def _below(kind: type[Artifact]) -> list[type[Artifact]]:
    return [found for sub in kind.__subclasses__() for found in (*_below(sub), *([sub] if "kind" in vars(sub) else []))]


def _failure(error: BaseException) -> dict[str, Any]:
    trace = "".join(traceback.format_exception(error))
    print(trace, file=sys.stderr, flush=True)
    if isinstance(error, TuneforgeError):
        problem, fix = error.finding.problem, error.finding.fix
    else:
        problem, fix = f"{type(error).__name__}: {error}".strip(": "), ""
    return {"event": "failed", "problem": problem, "fix": fix, "traceback": trace}


def _send(events: int, event: Mapping[str, Any]) -> None:
    data = (json.dumps(event) + "\n").encode()
    while data:
        data = data[os.write(events, data) :]


def _redirect(log: Path) -> None:
    """Whatever libraries print goes to the step's log."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def _die_with(lifeline: int, children: Collection[int]) -> None:
    """Ends this process and all it has started when the run is gone.

    The server does it for its children too: a step in native code may never let its own thread come to it.
    """
    os.read(lifeline, 1)
    for child in tuple(children):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    serve(*(int(argument) for argument in sys.argv[1:4]))
