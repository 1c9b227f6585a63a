"""The run's side of its workers: starts a server per environment, hands out requests, reads events."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneforge_registry import Registry

from .artifacts import Artifact
from .child import await_group, how_it_died, kill_group, settings
from .environments import Environment


@dataclass
class Outcome:
    """How a worker ended. `problem` is empty when its step is done."""

    base: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    reads: list[tuple[str, str]] = field(default_factory=list)
    peak_memory: int = 0
    """Bytes, the largest resident set of the step's process."""
    import_seconds: float = 0.0
    work_seconds: float = 0.0
    problem: str = ""
    fix: str = ""
    traceback: str = ""


def start(
    environment: Environment,
    module: str,
    pipes: Sequence[int],
    threads: int,
    *,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a module of tuneforge in an environment; its arguments are the descriptors of pipes that it inherits."""
    return subprocess.Popen(
        # -P: a file of the working folder that is called like a library must not be taken for it.
        [str(environment.python), "-P", "-m", module, *map(str, pipes)],
        pass_fds=pipes,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=settings(threads, environment.python_path),
        start_new_session=True,  # Ctrl-C is for the starter to handle
    )


def artifact_request(registry: Registry, kinds: Mapping[str, type[Artifact]], digest: str) -> dict[str, Any]:
    """A stored artifact as another process is told of it: `tuneforge.child.artifact` makes it one again."""
    manifest = registry.manifest(digest)
    kind = kinds[manifest.kind]
    return {
        "kinds": [above.kind for above in kind.__mro__ if issubclass(above, Artifact) and "kind" in vars(above)],
        "path": str(registry.tree(digest)),
        "digest": digest,
        "base": artifact_request(registry, kinds, manifest.base) if manifest.base else None,
    }


class Server:
    """A worker server in one environment; see `tuneforge.worker`."""

    def __init__(self, environment: Environment, threads: int, lifeline: int) -> None:
        requests, to_server = os.pipe()
        from_server, events = os.pipe()
        self._process = start(
            environment, "tuneforge.worker", (requests, events, lifeline), threads, stderr=subprocess.PIPE
        )
        os.close(requests)
        os.close(events)
        self._requests = os.fdopen(to_server, "w", encoding="utf-8")
        self._lines = os.fdopen(from_server, encoding="utf-8")
        self._child: int | None = None
        threading.Thread(target=self._bury, daemon=True).start()

    def carry_out(self, request: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]) -> Outcome:
        """Has one request carried out; `tell` gets the events that are meant for whoever watches."""
        outcome = Outcome()
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
        except BrokenPipeError:
            return self._gone(outcome)
        try:
            return self._follow(outcome, tell)
        except BaseException:
            self.stop()  # nobody is there any more to take what the step makes
            raise

    def _follow(self, outcome: Outcome, tell: Callable[[dict[str, Any]], None]) -> Outcome:
        finished = False
        for line in self._lines:
            try:
                event = json.loads(line)
            except ValueError:  # a step that is killed may not have told to the end
                continue
            match event.pop("event"):
                case "forked":
                    self._child = event["pid"]
                    outcome.import_seconds = event["import_seconds"]
                case "done":
                    finished = True
                    outcome.base, outcome.metrics = event["base"], event["metrics"]
                    outcome.work_seconds = event["work_seconds"]
                    outcome.reads = [(block, name) for block, name in event["reads"]]
                case "failed":
                    outcome.problem, outcome.fix = event["problem"], event["fix"]
                    outcome.traceback = event["traceback"]
                case "exited":
                    self._child = None
                    outcome.peak_memory = event["peak_memory"]
                    if not (finished and event["status"] == 0 and not event["signal"]) and not outcome.problem:
                        outcome.problem, outcome.fix = how_it_died(event["signal"], event["status"])
                    return outcome
                case kind:
                    tell({"event": kind, **event})
        return self._gone(outcome)

    def _bury(self) -> None:
        """Ends the step when its server has died: it would work on, and nobody take what it makes."""
        self._process.wait()
        if self._child is not None:
            kill_group(self._child)

    def _gone(self, outcome: Outcome) -> Outcome:
        self.stop()
        said = self._process.stderr.read().decode(errors="replace").strip() if self._process.stderr else ""
        code = self._process.returncode
        outcome.problem, outcome.fix = how_it_died(max(0, -code), max(0, code))
        if said:
            outcome.problem += f": {said.splitlines()[-1]}"
        return outcome

    def stop(self) -> None:
        """Ends the server, and the step it may be carrying out with all that the step has started."""
        if self._child is not None:
            kill_group(self._child)
            await_group(self._child, 5)  # the server, which still lives, takes note of its end
        kill_group(self._process.pid)
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
