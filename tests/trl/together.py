"""Several processes that carry one step out together, forked from the tests, which have imported all they need."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, GradientState, PartialState

from tuneforge import Step, StepError
from tuneforge.launch.options import Launch, Strategy
from tuneforge.stages import Method
from tuneforge_trl.spread.strategies import Ddp

Send = Callable[[dict[str, Any]], None]


class Together:
    """A step that `processes` ranks carried out in `folder`: rank 0's losses, log and figures, and the result."""

    def __init__(
        self,
        method: Method,
        model: Any,
        data: Any,
        folder: Path,
        *,
        processes: int = 2,
        strategy: Strategy | None = None,
        send: Send | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        for name in ("out", "scratch"):
            (folder / name).mkdir(exist_ok=True)
        self.folder = folder
        launch = Launch(processes, 1, strategy or Ddp())

        def work(rank: int) -> None:
            events: list[dict[str, Any]] = []

            def tell(event: dict[str, Any]) -> None:
                events.append(event)
                if send:
                    send(event)

            if before:
                before()
            out = folder / "out" if rank == 0 else folder / f"thrown-away-{rank}"
            out.mkdir(exist_ok=True)
            step = Step("fit", out, folder / "scratch", 1, 1, tell, rank=rank, launch=launch)
            method.run(model=model, data=data, step=step)
            (folder / f"told-{rank}.json").write_text(json.dumps({"events": events, "figures": step.figures}))

        if method.prepare is not None:
            method.prepare(
                model=model, data=data, step=Step("fit", folder / "out", folder / "scratch", 1, 1, lambda event: None)
            )
        self.exits, self.problems = on_ranks(processes, work, folder)
        self.events: list[dict[str, Any]] = []
        self.figures: dict[str, Any] = {}
        if not any(self.exits):
            told = json.loads((folder / "told-0.json").read_text())
            self.events, self.figures = told["events"], told["figures"]
        self.losses = [event["figures"]["loss"] for event in self.events if event["event"] == "progress"]
        self.log = [event["text"] for event in self.events if event["event"] == "log"]

    def files(self) -> dict[str, bytes]:
        assert not any(self.exits), self.problems
        return {path.name: path.read_bytes() for path in sorted((self.folder / "out").iterdir())}


def on_ranks(processes: int, work: Callable[[int], None], folder: Path) -> tuple[list[int | None], list[str]]:
    """Calls `work` with its rank in each process; gives exit codes, and what went wrong. One that dies ends all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def begin(rank: int) -> None:
        where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        where |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in where.items()})
        for state in (PartialState, AcceleratorState, GradientState):
            state._shared_state.clear()
        try:
            work(rank)
        except BaseException as error:
            problem = error.finding.problem if isinstance(error, StepError) else traceback.format_exc()
            (folder / f"problem-{rank}").write_text(problem)
            os._exit(1)
        os._exit(0)

    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=begin, args=(rank,)) for rank in range(processes)]
    for process in ranks:
        process.start()
    waiting = list(ranks)
    while waiting:
        multiprocessing.connection.wait([process.sentinel for process in waiting], 120)
        ended = [process for process in waiting if not process.is_alive()]
        waiting = [process for process in waiting if process.is_alive()]
        if not ended or any(process.exitcode for process in ended):
            for process in waiting:
                process.join(5)  # it may have something to say too
                if process.pid and process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
    for process in ranks:
        process.join()
    return [process.exitcode for process in ranks], [path.read_text() for path in sorted(folder.glob("problem-*"))]
