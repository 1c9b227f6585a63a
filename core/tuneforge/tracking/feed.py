"""The run's end of a tracker: a queue that never fills up for the run, and the process that is fed from it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tuneforge_registry import Registry

from ..child import how_it_died, kill_group
from ..environments import Environment, environment_for, lend, make
from ..errors import TuneforgeError
from ..lifecycle import HOOKS, Moment, StepMetrics
from ..offered import Origin
from ..plugins import told
from ..redaction import Log
from ..trackers import Tracker
from ..workers import start

WAITING = 10_000
"""Figures that may wait for a slow tracker: some megabytes. Those that come while it is full are left out, counted."""

PATIENCE, HURRY, SOON = 60.0, 5.0, 1.0
"""Seconds that trackers have at the end of a run, and of an interrupted one; and those that pass without a word."""


class Feed:
    """Feeds one tracker. `entry` is what the run's record tells of it."""

    def __init__(
        self, tracker: Tracker, origin: Origin, registry: Registry, run: str, say: Callable[[str], None]
    ) -> None:
        self.name = tracker.name
        self.entry: dict[str, Any] = {"status": "unused", "place": "", "left_out": 0, "problem": ""}
        self._tracker, self._origin, self._registry, self._run, self._say = tracker, origin, registry, run, say
        self._waiting: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._life: int | None = None
        self._thread: threading.Thread | None = None
        self._began = False
        self._sent = self._taken = 0
        self._given_up = self._finished = False

    def tell(self, moment: Moment) -> None:
        """Has the tracker told of a moment, as soon as it can take it; gives no thought to when that is."""
        if self._over.is_set():
            return
        if isinstance(moment, StepMetrics):
            if not moment.figures:
                return
            if self._waiting.qsize() >= WAITING:
                self.entry["left_out"] += 1
                return
        self._waiting.put({"event": HOOKS[type(moment)], **vars(moment)})

    def start(self) -> None:
        """Starts the tracker, unless that was done; what was told so far comes first."""
        if self._began:
            return
        self._began = True
        self.entry["status"] = "running"
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """There is nothing more to tell."""
        self._waiting.put(None)

    def wait(self, seconds: float) -> bool:
        """Waits for the tracker's end; whether it came."""
        return not self._began or self._over.wait(max(0.0, seconds))

    def give_up(self, why: str) -> None:
        """Ends the tracker as it is."""
        self._given_up = True
        missing = self._sent + self._waiting.qsize() - self._taken
        self._fail(f"{why}; {max(0, missing)} of the moments it was to be told of may be missing there")
        if self._process is not None:
            kill_group(self._process.pid)

    @property
    def log(self) -> Path:
        """What the tracker's process prints."""
        return self._registry.run_folder(self._run) / f"tracker.{self.name}.log"

    def _follow(self) -> None:
        try:
            problem = self._carry_out()
        except TuneforgeError as error:
            problem = error.finding.problem
        except Exception as error:  # whatever making an environment or starting a process may raise
            problem = told(error)
        if not self._given_up:
            if problem:
                self._fail(problem)
            elif self.entry["left_out"]:
                self._fail(f"it was too slow: {self.entry['left_out']} figures were left out", "done")
            else:
                self.entry["status"] = "done"
        self._over.set()

    def _fail(self, problem: str, status: str = "failed") -> None:
        self.entry |= {"status": status, "problem": problem}
        self._say(f"warning: tracker {self.name}: {problem}. Its log: {self.log}")

    def _carry_out(self) -> str:
        """Feeds the process to its end; what went wrong, if something did."""
        environment = self._environment()
        requests, to_tracker = os.pipe()
        from_tracker, words = os.pipe()
        lifeline, life = os.pipe()
        try:
            log = Log(self.log)
            try:
                module, to = "tuneforge.tracking.following", log.descriptor
                process = start(environment, module, (requests, words, lifeline), 1, stdout=to, stderr=to)
            finally:
                log.close()
        except BaseException:
            for descriptor in (to_tracker, from_tracker, life):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (requests, words, lifeline):
                os.close(descriptor)
        self._process = process
        if self._given_up:
            kill_group(process.pid)
        threading.Thread(target=self._write, args=(to_tracker,), daemon=True).start()
        try:
            problem = self._listen(from_tracker)
            status = process.wait()
            log.wait()
        finally:
            os.close(life)
            self._waiting.put(None)  # whoever still writes may end
        if not problem and (status or not self._finished):
            problem, _ = how_it_died(max(0, -status), max(0, status))
        return problem

    def _environment(self) -> Environment:
        home = self._registry.home
        needed = environment_for(self._tracker.needs, home)
        environment = make(needed, home, lambda text: self._say(f"tracker {self.name}: {text}"))
        if not self._origin.file:
            lend(environment, sorted({"tuneforge", type(self._tracker).__module__.partition(".")[0]}))
        else:
            lend(environment, ["tuneforge"])
        return environment

    def _write(self, pipe: int) -> None:
        kind = type(self._tracker)
        request: dict[str, Any] = {
            "file": str(self._origin.file) if self._origin.file else None,
            "module": kind.__module__,
            "class": kind.__qualname__,
            "config": self._tracker.model_dump(mode="json"),
        }
        with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "w", encoding="utf-8") as lines:
            next_: dict[str, Any] | None = request
            while next_ is not None:
                lines.write(json.dumps(next_, default=str) + "\n")
                lines.flush()
                self._sent += 1
                next_ = self._waiting.get()

    def _listen(self, pipe: int) -> str:
        """Hears the process out; what it says to have failed with, if it does."""
        problem = ""
        with os.fdopen(pipe, encoding="utf-8") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:  # the half of a line, which a killed process leaves
                    continue
                match event["event"]:
                    case "opened":
                        self.entry["place"] = event["place"]
                        if event["place"]:
                            self._say(f"tracker {self.name}: {event['place']}")
                    case "taken":
                        self._taken = event["count"]
                    case "trouble":
                        self._say(f"warning: tracker {self.name}: {event['problem']}. Its log: {self.log}")
                        self.entry["problem"] = event["problem"]
                    case "failed":
                        problem = event["problem"]
                    case "finished":
                        self._finished = True
        return problem


def finish(feeds: Sequence[Feed], say: Callable[[str], None], interrupted: bool) -> None:
    """Gives trackers the time they need to finish, within reason; says so if it takes a while. Ctrl-C cuts it short."""
    patience = HURRY if interrupted else PATIENCE
    for feed in feeds:
        feed.end()
    began = time.monotonic()
    try:
        for feed in feeds:
            feed.wait(SOON - (time.monotonic() - began))
        late = [feed for feed in feeds if not feed.wait(0)]
        if late:
            names = ", ".join(feed.name for feed in late)
            say(f"waiting for {names} to finish, at most {patience:.0f} s (Ctrl-C goes on without)")
        for feed in late:
            if not feed.wait(patience - (time.monotonic() - began)):
                feed.give_up(f"it did not finish within {patience:.0f} s")
    except KeyboardInterrupt:
        for feed in feeds:
            if not feed.wait(0):
                feed.give_up("nobody waited for it to finish")
