"""One rank of a launched step, started by torchrun: `python -m tuneforge.launch.rank ORDER LOCAL`; see `.torchrun`."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..child import die_with, die_with_parent, failure, send
from ..errors import StepError
from ..redaction import redacted, secrets_of
from ..stages import Config
from ..step import Step
from ..worker import inputs, method_of
from .options import Launch
from .torchrun import beside, write_whole


def work(order: Path, local: Path) -> int:
    """Carries this rank's part of the step out."""
    die_with_parent()
    # Where that does nothing. Without waiting for a writer: if there is none any more, it reads as closed.
    life = os.open(local / "life", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(life, True)
    threading.Thread(target=die_with, args=(life, ()), daemon=True).start()
    faulthandler.enable()
    rank = int(os.environ["RANK"])
    request = None
    try:
        request = json.loads(order.read_text(encoding="utf-8"))
        with contextlib.ExitStack() as held:
            # What other ranks write into `out` is thrown away, whatever libraries do there.
            out = request["out"] if rank == 0 else held.enter_context(tempfile.TemporaryDirectory(dir=local))
            events = os.open(local / "events", os.O_WRONLY) if rank == 0 else os.open(os.devnull, os.O_WRONLY)
            send(events, _run(request, rank, Path(out), events))
    except BaseException as error:
        told = redacted(failure(error), secrets_of(request))
        write_whole(beside(order, f"failed-{rank}"), told | {"rank": rank, "time": time.time()})
        return 1
    return 0


def _run(request: Mapping[str, Any], rank: int, out: Path, events: int) -> dict[str, Any]:
    kind = method_of(request)
    launch = Launch.of_json(kind, request["launch"])
    world = int(os.environ["WORLD_SIZE"])
    if world != launch.world_size:
        raise StepError(
            f"{launch.world_size} processes were asked for, and torchrun has started {world}",
            "See whether each node was given the same --launch.",
        )
    if kind.engine:
        importlib.import_module(kind.engine)
    method = kind(**request["config"])
    Config.reads.clear()  # what validators look at is not read by the step
    step = Step(
        name=request["name"],
        out=out,
        scratch=Path(request["scratch"]),
        seed=request["seed"],
        threads=max(1, request["threads"] // launch.processes),
        send=lambda event: send(events, event),
        lineage=request["lineage"],
        rank=rank,
        launch=launch,
    )
    started = time.monotonic()
    method.run(**inputs(kind, request["inputs"]), step=step)
    worked = time.monotonic() - started
    reads = sorted(Config.reads)
    return {"event": "done", "base": step.base, "metrics": step.figures, "reads": reads, "work_seconds": worked}


if __name__ == "__main__":
    status = work(*map(Path, sys.argv[1:3]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of communication libraries may hold a failed process up
