"""Several machines with one shared home: node 0 carries the run out, the others lend their ranks to its launched steps.

Node 0 leaves its run's id in <home>/nodes/, under the name of the rendezvous. The others find it there, start their
share of every order that appears in the run's folder, and end with the run: that it lives they see by its lock.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneforge_registry import Registry, RegistryError

from ..child import settings
from ..errors import DONE, STEP_FAILED, StepError
from ..plan import Plan
from .torchrun import ORDER, Ranks, beside, write_whole

LAUNCHED = "launched"
"""The folder of a run with the orders for its ranks."""

_WAIT = 900.0
"""Seconds that a node waits for node 0 to begin."""
_LAG = 30.0
"""Seconds that ranks have to end by themselves once those of node 0 have."""
_LOOK = 0.2


def rendezvous_of(plan: Plan) -> str | None:
    """Where the nodes of a plan meet; None if it needs but one."""
    return next((step.launch.rendezvous for step in _launched(plan) if step.launch.nodes > 1), None)


def lead(registry: Registry, rendezvous: str, run_id: str) -> None:
    """Has the other nodes know that this run is theirs."""
    pointer = _pointer(registry, rendezvous)
    pointer.parent.mkdir(exist_ok=True)
    write_whole(pointer, {"run": run_id})


def follow(plan: Plan, node: int, threads: int, log: Callable[[str], None]) -> int:
    """Is node `node` of a run, to its end; gives the exit code. Raises StepError when node 0 does not begin."""
    registry, rendezvous = plan.registry, rendezvous_of(plan)
    if rendezvous is None:
        log("nothing is to be done on several nodes")
        return DONE
    run_id = _await_leader(registry, rendezvous, log)
    taken: set[Path] = set()
    log(f"node {node} of run {run_id}")
    while True:
        status = registry.run(run_id)["status"]  # before the folder: an order that comes later is of no one's
        for order in sorted((registry.run_folder(run_id) / LAUNCHED).glob(f"*{ORDER}")):
            if order not in taken and status == "running":
                taken.add(order)
                _take_part(registry, run_id, order, node, threads, log)
        if status != "running":
            log(f"node 0 has ended: {status}")
            return DONE if status == "done" else STEP_FAILED
        time.sleep(_LOOK)


def _launched(plan: Plan) -> list[Any]:
    return [step for step in plan.steps.values() if step.launch and step.status == "run"]


def _pointer(registry: Registry, rendezvous: str) -> Path:
    return registry.home / "nodes" / f"{rendezvous.replace(':', '_')}.json"


def _await_leader(registry: Registry, rendezvous: str, log: Callable[[str], None]) -> str:
    """The id of the run that node 0 has begun: one that goes on, or that began after we came."""
    log(f"waiting for node 0 ({rendezvous})")
    old = _led(registry, rendezvous)
    until = time.monotonic() + _WAIT
    while time.monotonic() < until:
        run_id = _led(registry, rendezvous)
        if run_id and (run_id != old or registry.run(run_id)["status"] == "running"):
            return run_id
        time.sleep(_LOOK)
    raise StepError(
        f"node 0 has not begun within {_WAIT:.0f} s",
        f"Start it with the same recipe and --launch, and --node 0; all nodes share the home {registry.home}.",
    )


def _led(registry: Registry, rendezvous: str) -> str | None:
    try:
        run_id = str(json.loads(_pointer(registry, rendezvous).read_bytes())["run"])
        registry.run(run_id)
    except (FileNotFoundError, RegistryError):  # there was none, or it was removed
        return None
    return run_id


def _take_part(
    registry: Registry, run_id: str, order: Path, node: int, threads: int, log: Callable[[str], None]
) -> None:
    request = json.loads(order.read_text(encoding="utf-8"))
    launch = request["launch"]
    log(f"{request['name']}: {launch['processes']} of its ranks run here")
    env = settings(max(1, threads // launch["processes"]), launch["python_path"])
    python = launch["python"] or sys.executable
    with (
        tempfile.TemporaryDirectory(prefix="tuneforge-", ignore_cleanup_errors=True) as local,
        Ranks(order, launch, node, Path(local), python, env, log=_log_of(order, node)) as ranks,
    ):
        over: float | None = None
        while ranks.process.poll() is None:
            time.sleep(_LOOK)
            if registry.run(run_id)["status"] != "running":
                return
            if over is None and beside(order, "ended-0").exists():
                over = time.monotonic()
            if over is not None and time.monotonic() - over > _LAG:
                return
    log(f"{request['name']}: the ranks here have ended ({ranks.process.returncode})")


def _log_of(order: Path, node: int) -> Path:
    return order.parent.parent / f"{order.name.removesuffix(ORDER)}.node-{node}.log"
