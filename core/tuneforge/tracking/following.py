"""One tracker, in its own process.

`python -m tuneforge.tracking.following MOMENTS WORDS LIFELINE` (file descriptors) reads which tracker it is, and then
what happens in the run, in JSON lines. LIFELINE is a pipe that nobody writes to: it closes when the run dies, and then
there are some seconds left to say so to the tool.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from ..child import failure, send
from ..lifecycle import MOMENTS, Moment, RunFinished, RunStarted
from ..plugins import import_file
from ..trackers import Follower, Tracker

_GRACE = 5.0  # seconds that are left when the run has died
_NEWS = 0.5  # seconds between two words on how many moments were taken


def follow(moments: int, words: int, lifeline: int) -> int:
    """Follows a run to its end; the exit code."""
    threading.Thread(target=_die_after, args=(lifeline,), daemon=True).start()
    faulthandler.enable()
    with os.fdopen(moments, encoding="utf-8") as lines:
        try:
            tracker = _tracker(json.loads(next(lines)))
            coming = _moments(lines)
            began = next(coming)[1]
            assert isinstance(began, RunStarted)
            follower = tracker.open(began)
        except BaseException as error:  # whatever a tool may raise is told, with its traceback
            _say(words, failure(error))
            return 1
        _tell_all(follower, began, coming, words)
    _say(words, {"event": "finished"})
    return 0


def _tell_all(follower: Follower, began: RunStarted, coming: Iterator[tuple[str, Moment]], words: int) -> None:
    warned = False
    last: Moment = began
    told = time.monotonic()
    count = 2  # the tracker's options, and the run's beginning
    place = follower.place
    _say(words, {"event": "opened", "place": place})

    def tell(hook: str, moment: Moment) -> None:
        nonlocal warned
        try:
            getattr(follower, hook)(moment)
        except Exception as error:
            trouble = failure(error)  # prints its traceback to the log, each time
            if not warned:
                warned = True
                _say(words, {"event": "trouble", "problem": f"{hook}: {trouble['problem']}"})

    for hook, moment in coming:
        tell(hook, moment)
        last = moment
        count += 1
        if follower.place != place:
            place = follower.place
            _say(words, {"event": "opened", "place": place})
        if time.monotonic() - told > _NEWS:
            told = time.monotonic()
            _say(words, {"event": "taken", "count": count})
    if not isinstance(last, RunFinished):
        tell("run_finished", RunFinished(began.run, began.recipe, "killed"))


def _tracker(request: Mapping[str, Any]) -> Tracker:
    if request["file"]:
        import_file(Path(request["file"]))  # under the very name that it has in the run's own process
    kind: type[Tracker] = attrgetter(request["class"])(importlib.import_module(request["module"]))
    return kind(**request["config"])


def _moments(lines: Iterator[str]) -> Iterator[tuple[str, Moment]]:
    for line in lines:
        try:
            given = json.loads(line)
        except ValueError:  # the half of a line, which a killed run leaves
            continue
        hook = given.pop("event")
        yield hook, MOMENTS[hook](**given)


def _say(words: int, event: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # a run that was killed hears nothing; the tool is told all the same
        send(words, event)


def _die_after(lifeline: int) -> None:
    os.read(lifeline, 1)
    time.sleep(_GRACE)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(follow(*(int(argument) for argument in sys.argv[1:4])))
