"""A server in a process of its own.

`python -m tuneforge.serve.serving REQUEST EVENTS LIFELINE` (file descriptors) reads what to serve, and serves it.
Should that fail, an event tells why.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import threading
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from ..child import artifact, die_with, die_with_parent, failure, send
from ..servers import Server, Terms


def main(request: int, events: int, lifeline: int) -> int:
    die_with_parent()  # native code that loads a model may let no thread of ours come to it
    threading.Thread(target=die_with, args=(lifeline, ()), daemon=True).start()
    faulthandler.enable()
    with os.fdopen(request, encoding="utf-8") as asked:
        given = json.load(asked)
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
    sys.exit(main(*(int(argument) for argument in sys.argv[1:4])))
