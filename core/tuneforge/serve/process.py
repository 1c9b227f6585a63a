"""The command's side of a server: its process, what that prints, and its end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from typing import IO, Any

from tuneforge_registry import Registry

from ..child import exited_with, how_it_died
from ..environments import lent
from ..errors import TuneforgeError
from ..plugins import Plugins
from ..servers import Terms
from ..workers import artifact_request, start
from .address import Address, ready
from .choice import Served


class Running:
    """A server that was started; it may still be loading."""

    def __init__(
        self, label: str, address: Address, process: subprocess.Popen[bytes], events: IO[str], printed: Printed
    ) -> None:
        self._label = label
        self._address = address
        self._process = process
        self._events = events
        self._printed = printed

    def wait_until_ready(self) -> None:
        """Waits until clients may come; what it prints is shown from then on. Raises TuneforgeError if it fails."""
        while not ready(self._address):
            if self._process.poll() is not None:
                self._fail()
            time.sleep(0.1)
        self._printed.show()

    def wait_until_ended(self) -> None:
        """Waits until it ends, which it does not by itself: raises TuneforgeError."""
        self._process.wait()
        self._fail()

    def _fail(self) -> None:
        self._printed.wait()
        event = self._event()
        if event["event"] == "failed":
            error = TuneforgeError(event["problem"], event["fix"], self._label)
            error.add_note(event["traceback"])
            raise error
        problem, _ = how_it_died(event["signal"], event["status"])
        said = f": {self._printed.last}" if self._printed.last else ""
        raise TuneforgeError(problem + said, "--debug before `serve` shows all that it says.", self._label)

    def _event(self) -> dict[str, Any]:
        for line in self._events:
            with suppress(ValueError):  # the half of a line, which a killed process leaves
                event: dict[str, Any] = json.loads(line)
                return event
        return exited_with(self._process.wait())


class Printed:
    """What a process prints. The last of it is kept; once that is asked for, the lines in which an expression is found
    are shown on standard error."""

    def __init__(self, pipe: int, tells: str) -> None:
        self._lines = os.fdopen(pipe, encoding="utf-8", errors="replace")
        self._tells = re.compile(tells)
        self._shown = False
        self._kept: deque[str] = deque(maxlen=50)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def last(self) -> str:
        return next((line.strip() for line in reversed(self._kept) if line.strip()), "")

    def show(self) -> None:
        self._shown = True

    def wait(self) -> None:
        """Waits for the last of it; not for ever, as what the process started may outlive it for a moment."""
        self._thread.join(2)

    def _read(self) -> None:
        for line in self._lines:
            self._kept.append(line)
            if self._shown and self._tells.search(line):
                sys.stderr.write(line)
                sys.stderr.flush()


@contextmanager
def running(
    ref: str,
    served: Served,
    terms: Terms,
    registry: Registry,
    plugins: Plugins,
    *,
    log: Callable[[str], None],
    debug: bool = False,
) -> Iterator[Running]:
    """The server in a process of its own, in the environment that it needs; it ends, at once, with the block."""
    kind = type(served.server)
    environment = lent(served.server.requires(served.facts), (kind.__module__,), registry.home, log)
    address = Address(terms.host, terms.port)
    request = {
        "module": kind.__module__,
        "class": kind.__qualname__,
        "artifact": artifact_request(registry, plugins.kinds, served.digest),
        "base": artifact_request(registry, plugins.kinds, served.base) if served.base else None,
        "terms": asdict(terms),
    }
    with ExitStack() as ends:
        asked, writing = os.pipe()
        reading, events = os.pipe()
        lifeline, life = os.pipe()
        output, printing = os.pipe()
        theirs = (asked, events, lifeline)
        process = start(environment, "tuneforge.serve.serving", theirs, terms.threads, stdout=printing, stderr=printing)
        ends.callback(process.wait)
        ends.callback(os.close, life)  # ends it, with all that it has started
        for descriptor in (*theirs, printing):
            os.close(descriptor)
        told = ends.enter_context(os.fdopen(reading, encoding="utf-8"))
        with suppress(BrokenPipeError), os.fdopen(writing, "w", encoding="utf-8") as lines:
            json.dump(request, lines)
        printed = Printed(output, "" if debug else kind.tells)
        if debug:
            printed.show()
        yield Running(ref, address, process, told, printed)
