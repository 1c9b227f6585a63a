"""One step, in its own process.

`python -m tuneforge.worker REQUESTS EVENTS LIFELINE` (file descriptors) is a server: for every request it imports the
step's plugin and engine once, then forks, so that the imports are paid once a run and no step inherits another's state.
What the next step needs is imported while this one works, by the thread that forks: what a library keeps of another
thread would be in its child, whose threads are others (MKL's memory manager has been seen to wait for ever there).
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

from .child import artifact, die_with, exited_with, failure, kill_group, send, settings
from .inputs import inputs_of
from .launch.torchrun import carry_out
from .plugins import import_file
from .redaction import Log, secrets_of
from .stages import Config, Method
from .step import Step


def serve(requests: int, events: int, lifeline: int) -> None:
    """Carries out requests until there are no more."""
    running: set[int] = set()
    threading.Thread(target=die_with, args=(lifeline, running), daemon=True).start()
    with os.fdopen(requests, encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            started = time.monotonic()
            log = _redirect(Path(request["log"]), request["config"])
            try:
                method = _imported(request)
            except BaseException as error:  # whatever an import may raise is a failed step, told with its traceback
                told = failure(error)
                _end(log)
                send(events, told)
                send(events, {"event": "exited", "signal": 0, "status": 1, "peak_memory": 0})
                continue
            imported = time.monotonic() - started
            child = os.fork()
            if child == 0:
                os._exit(_work(request, method, events, lifeline))
            running.add(child)
            send(events, {"event": "forked", "pid": child, "import_seconds": imported})
            if request["next"]:
                _import_ahead(request["next"])
            _, status, usage = os.wait4(child, 0)
            kill_group(child)  # nothing that a step started outlives it
            running.discard(child)
            _end(log)
            os.write(events, b"\n")  # if it was killed while it told something, that ends here
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            send(events, exited_with(os.waitstatus_to_exitcode(status)) | {"peak_memory": peak})


def _imported(request: Mapping[str, Any]) -> type[Method]:
    method = method_of(request)
    if method.engine:
        importlib.import_module(method.engine)
    return method


def _import_ahead(request: Mapping[str, Any]) -> None:
    with contextlib.suppress(BaseException):  # the step's own request fails of the same, and tells it
        _imported(request)


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
        given = inputs(kind, request["inputs"])
        if method.prepare is not None:
            method.prepare(**given, step=step)
        if request["launch"]:
            ended = _launch(request, step, started, events)
        else:
            method.run(**given, step=step)
            ended = {"event": "done", "base": step.base, "metrics": step.figures, "reads": sorted(Config.reads)}
            ended["work_seconds"] = time.monotonic() - started
        send(events, ended)
        status = int(ended["event"] != "done")
    except BaseException as error:
        send(events, failure(error))
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status


def _launch(request: Mapping[str, Any], step: Step, started: float, events: int) -> dict[str, Any]:
    """Has the step's ranks do what `prepare` has not; the figures of both are the step's."""
    prepared = time.monotonic() - started
    threads = max(1, request["threads"] // request["launch"]["processes"])
    ended = carry_out(request, sys.executable, settings(threads, None), lambda event: send(events, event))
    if ended["event"] == "done":
        ended["metrics"] = step.figures | ended["metrics"]
        ended["reads"] = sorted({*Config.reads, *map(tuple, ended["reads"])})
        ended["work_seconds"] += prepared
    return ended


def method_of(request: Mapping[str, Any]) -> type[Method]:
    """The class of a request's method, imported."""
    if request["file"]:
        import_file(Path(request["file"]))  # under the very name that it has in the run's own process
    method: type[Method] = attrgetter(request["class"])(importlib.import_module(request["module"]))
    return method


def inputs(kind: type[Method], given: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A request's artifacts by the names of the inputs."""
    found: dict[str, Any] = {}
    for name, wanted in inputs_of(kind).items():
        artifacts = [artifact(wanted.kinds, one) for one in given.get(name, [])]
        if wanted.many and (artifacts or wanted.required):
            found[name] = artifacts
        elif artifacts:
            found[name] = artifacts[0]
    return found


def _redirect(path: Path, config: Mapping[str, Any]) -> Log:
    """Whatever libraries print goes to the step's log, without secrets."""
    log = Log(path, secrets_of(config))
    os.dup2(log.descriptor, 1)
    os.dup2(log.descriptor, 2)
    log.close()
    return log


def _end(log: Log) -> None:
    """Waits until the log has all that was printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    log.wait()


if __name__ == "__main__":
    serve(*(int(argument) for argument in sys.argv[1:4]))
