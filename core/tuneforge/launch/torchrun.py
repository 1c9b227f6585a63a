"""The processes of one machine that carry a launched step out: torchrun starts them, and they end with whoever asked.

An order is a file in the run's folder with the step's request. Beside it every rank that fails says why, and every
machine how its ranks ended. Events come back through a named pipe, since torchrun closes inherited descriptors; a
second one, which nobody writes to, tells each rank by closing that the run is over. On Linux torchrun ends with who
started it, and each rank with torchrun, by the system's doing: native code may never let a rank's own thread look.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..child import how_it_died
from ..redaction import Log, redacted

ORDER = ".order.json"
_GRACE = 10.0
"""Seconds within which other machines tell how their ranks ended, once this one's have."""
_BEFORE = 5.0
"""A rank that is killed so many seconds after another has failed was killed by torchrun, for not ending."""


def write_order(request: Mapping[str, Any]) -> Path:
    """Writes a request into the run's folder, where every machine finds it."""
    order = Path(request["launch"]["folder"]) / f"{request['name']}{ORDER}"
    order.parent.mkdir(exist_ok=True)
    write_whole(order, request)
    return order


def write_whole(path: Path, content: Any) -> None:
    """Writes JSON so that no reader sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content), encoding="utf-8")
    beside.rename(path)


def beside(order: Path, what: str) -> Path:
    """A file that belongs to an order: `failed-<rank>`, `ended-<node>`."""
    return order.with_name(f"{order.name.removesuffix(ORDER)}.{what}.json")


class Ranks:
    """The ranks of one machine. Leaving the block ends them, however it is left.

    What they print goes to the file `log`, or where what this process prints goes. `local` is a folder of this machine,
    in which pipes and what torchrun writes may lie; it is removed by whoever made it, since this process may be killed.
    """

    def __init__(
        self,
        order: Path,
        launch: Mapping[str, Any],
        node: int,
        local: Path,
        python: str,
        env: Mapping[str, str],
        log: Path | None = None,
    ) -> None:
        for pipe in ("life", "events"):
            os.mkfifo(local / pipe, 0o600)
        self._life = os.open(local / "life", os.O_RDWR)  # also for reading: opening it does not wait for a reader
        self._events = os.open(local / "events", os.O_RDWR)
        command = [python, "-P", "-m", "tuneforge.launch.agent", str(beside(order, f"ended-{node}"))]
        command += _meeting(launch, node)
        command += ["--nproc-per-node", str(launch["processes"]), "--max-restarts", "0", "--monitor-interval", "0.1"]
        command += ["--log-dir", str(local), "--tee", "3"]
        command += ["-m", "tuneforge.launch.rank", str(order), str(local)]
        # -P does not reach the ranks by itself.
        own = {"PYTHONSAFEPATH": "1", "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank ${rank}] "}
        self._log = Log(log) if log else None
        to = self._log.descriptor if self._log else None
        try:
            self.process = subprocess.Popen(
                command, env={**env, **own}, stdin=subprocess.DEVNULL, stdout=to, stderr=to and subprocess.STDOUT
            )
        finally:
            if self._log:
                self._log.close()
        self._ender = threading.Thread(target=self._end_events, daemon=True)
        self._ender.start()

    def events(self) -> Iterator[dict[str, Any]]:
        """What rank 0 tells, until all ranks of this machine have ended."""
        with open(self._events, encoding="utf-8", closefd=False) as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:  # a rank that is killed may not have told to the end
                    continue
                if event["event"] == "over":
                    return
                yield event

    def _end_events(self) -> None:
        self.process.wait()
        with contextlib.suppress(OSError):  # nobody listens any more
            os.write(self._events, b'\n{"event": "over"}\n')

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._life)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._ender.join(1)  # it must not write where the next file has this one's descriptor
        os.close(self._events)
        if self._log:
            self._log.wait()


def carry_out(
    request: Mapping[str, Any], python: str, env: Mapping[str, str], tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Has a request carried out on its ranks, of which this machine's are started here.

    `tell` gets rank 0's events. Gives the last one: `done`, or `failed` with what went wrong first on any rank.
    """
    launch = request["launch"]
    order = write_order(request)
    done: dict[str, Any] | None = None
    try:
        with Ranks(order, launch, 0, Path(request["local"]), python, env) as ranks:
            for event in ranks.events():
                if event["event"] == "done":
                    done = event
                else:
                    tell(event)
            code = ranks.process.wait()
    finally:  # a rank had to know it all; who looks at the run later does not
        write_whole(order, redacted(request))
    if done is not None and code == 0:
        return done
    return _why(order, launch, code)


def _why(order: Path, launch: Mapping[str, Any], code: int) -> dict[str, Any]:
    """What went wrong first: ranks that lose another one fail too, and torchrun ends the rest."""
    deadline = time.monotonic() + _GRACE
    others = [beside(order, f"ended-{node}") for node in range(1, launch["nodes"])]
    while not all(path.exists() for path in others) and time.monotonic() < deadline:
        time.sleep(0.1)
    told = [_read(path) for path in order.parent.glob(beside(order, "failed-*").name)]
    first = min(told, key=lambda failure: failure["time"], default=None)
    ended = [_read(path) for path in order.parent.glob(beside(order, "ended-*").name)]
    for rank, (status, when) in sorted((int(rank), end) for node in ended for rank, end in node.items()):
        killed = status < 0 and -status not in (signal.SIGTERM, signal.SIGABRT)
        if killed and (first is None or when < first["time"] + _BEFORE):
            problem, fix = how_it_died(-status, 0)
            return _failed(f"rank {rank}: {problem}", fix)
    if first is not None:
        return _failed(f"rank {first['rank']}: {first['problem']}", first["fix"], first["traceback"])
    problem, fix = how_it_died(max(0, -code), max(0, code))
    return _failed(f"torchrun: {problem}", fix)


def _failed(problem: str, fix: str, traceback: str = "") -> dict[str, Any]:
    return {"event": "failed", "problem": problem, "fix": fix, "traceback": traceback}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _meeting(launch: Mapping[str, Any], node: int) -> list[str]:
    if launch["nodes"] == 1:
        return ["--standalone", "--local-addr", "127.0.0.1"]
    # Static: node N has the Nth ranks, so that rank 0 is where the run is.
    return [
        *("--nnodes", str(launch["nodes"]), "--node-rank", str(node)),
        *("--rdzv-backend", "static", "--rdzv-endpoint", launch["rendezvous"]),
    ]
