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
import sys
import threading
import time
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from .child import artifact, die_with, exited_with, failure, kill_group, send
from .inputs import inputs_of
from .plugins import import_file
from .stages import Config, Method
from .step import Step


def serve(requests: int, events: int, lifeline: int) -> None:
    """Carries out requests until there are no more."""
    running: set[int] = set()
    threading.Thread(target=die_with, args=(lifeline, running), daemon=True).start()
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
                send(events, failure(error))
                send(events, {"event": "exited", "signal": 0, "status": 1, "peak_memory": 0})
                continue
            imported = time.monotonic() - started
            child = os.fork()
            if child == 0:
                os._exit(_work(request, method, events, lifeline))
            running.add(child)
            send(events, {"event": "forked", "pid": child, "import_seconds": imported})
            _, status, usage = os.wait4(child, 0)
            kill_group(child)  # nothing that a step started outlives it
            running.discard(child)
            os.write(events, b"\n")  # if it was killed while it told something, that ends here
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            send(events, exited_with(os.waitstatus_to_exitcode(status)) | {"peak_memory": peak})


def _work(request: Mapping[str, Any], kind: type[Method], events: int, lifeline: int) -> int:
    os.setsid()
    threading.Thread(target=die_with, args=(lifeline, ()), daemon=True).start()
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
            send=lambda event: send(events, event),
            lineage=request["lineage"],
        )
        started = time.monotonic()
        inputs = _inputs(kind, request["inputs"])
        if method.prepare is not None:
            method.prepare(**inputs, step=step)
        method.run(**inputs, step=step)
        worked = time.monotonic() - started
        reads = sorted(Config.reads)
        done = {"base": step.base, "metrics": step.figures, "reads": reads, "work_seconds": worked}
        send(events, {"event": "done", **done})
        status = 0
    except BaseException as error:
        send(events, failure(error))
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
        artifacts = [artifact(wanted.kinds, one) for one in given.get(name, [])]
        if wanted.many and (artifacts or wanted.required):
            inputs[name] = artifacts
        elif artifacts:
            inputs[name] = artifacts[0]
    return inputs


def _redirect(log: Path) -> None:
    """Whatever libraries print goes to the step's log."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


if __name__ == "__main__":
    serve(*(int(argument) for argument in sys.argv[1:4]))
