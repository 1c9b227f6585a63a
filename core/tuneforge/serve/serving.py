"""A server in a process of its own.

`python -m tuneforge.serve.serving REQUEST EVENTS LIFELINE` (file descriptors) reads what to serve, and forks a process
that serves it. Events tell why that failed, and how it ended.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Any

from ..child import artifact, exited_with, failure, kill_group, send
from ..servers import Server, Terms


def main(request: int, events: int, lifeline: int) -> None:
    with os.fdopen(request, encoding="utf-8") as asked:
        given = json.load(asked)
    child = os.fork()
    if child == 0:
        os._exit(_work(given, events))
    # Here and not there, as native code may never let another thread come to it.
    threading.Thread(target=_end_with, args=(lifeline, child), daemon=True).start()
    _, status = os.waitpid(child, 0)
    with suppress(BrokenPipeError):  # the command is gone
        send(events, exited_with(os.waitstatus_to_exitcode(status)))
    kill_group(os.getpid())  # what the server has started is in this group


def _end_with(lifeline: int, child: int) -> None:
    """Ends the server when the command is gone: `lifeline` is a pipe that nobody writes to."""
    os.read(lifeline, 1)
    os.kill(child, signal.SIGKILL)


def _work(given: Mapping[str, Any], events: int) -> int:
    faulthandler.enable()
    try:
        _serve(given)
    except BaseException as error:  # whatever a server may raise is told, with its traceback
        send(events, failure(error))
        return 1
    return 0


def _serve(given: Mapping[str, Any]) -> None:
    server: Server = attrgetter(given["class"])(importlib.import_module(given["module"]))()
    bases = tuple(kind for kinds in server.bases.values() for kind in kinds)
    base = artifact(bases, given["base"]) if given["base"] else None
    terms = Terms(**given["terms"] | {"keys": tuple(given["terms"]["keys"])})
    server.serve(artifact(server.kinds, given["artifact"]), base, terms)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
