"""Speakers, each in a process of its own.

`python -m tuneforge.chat.speaking REQUESTS LIFELINE ...` (file descriptors) reads its requests, imports what they need
once, and forks a process for each, which loads its artifact. Questions then come by the pipe `questions` of the request
and answers go by its pipe `events`, in JSON lines. A question has a number; `stop` names the one to answer no longer.
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
from queue import SimpleQueue
from typing import Any

from ..child import artifact, die_with, exited_with, failure, kill_group, send
from ..speakers import Manner, Speaker, Voice


def serve(requests: int, lifeline: int) -> None:
    """Serves until every speaker has ended."""
    running: dict[int, int] = {}
    threading.Thread(target=die_with, args=(lifeline, running), daemon=True).start()
    with os.fdopen(requests, encoding="utf-8") as lines:
        asked = [json.loads(line) for line in lines]
    for request in asked:
        try:
            speaker: type[Speaker] = attrgetter(request["class"])(importlib.import_module(request["module"]))
            if speaker.engine:
                importlib.import_module(speaker.engine)
        except BaseException as error:  # whatever an import may raise is told, with its traceback
            send(request["events"], failure(error))
            continue
        child = os.fork()
        if child == 0:
            for other in asked:
                if other is not request:
                    os.close(other["questions"])
                    os.close(other["events"])
            os._exit(_speak(request, speaker(), lifeline))
        running[child] = request["events"]
    for request in asked:  # so that a question to one that has ended finds nobody, and does not wait
        os.close(request["questions"])
    while running:
        child, status = os.wait()
        kill_group(child)
        os.write(running[child], b"\n")  # it may have been in the middle of a line
        send(running.pop(child), exited_with(os.waitstatus_to_exitcode(status)))


def _speak(request: Mapping[str, Any], speaker: Speaker, lifeline: int) -> int:
    os.setsid()
    threading.Thread(target=die_with, args=(lifeline, ()), daemon=True).start()
    faulthandler.enable()
    events = request["events"]
    try:
        given = artifact(speaker.kinds, request["artifact"])
        voice = speaker.open(given, request["threads"], request["context"])
    except BaseException as error:
        send(events, failure(error))
        return 1
    send(events, {"event": "open"})
    questions = _Questions(request["questions"])
    while (question := questions.next()) is not None:
        try:
            send(events, {"event": "ended", "cut": _answer(voice, question, questions, events)})
        except Exception as error:  # it is told, and the conversation goes on
            send(events, failure(error))
    return 0


def _answer(voice: Voice, question: Mapping[str, Any], questions: _Questions, events: int) -> str:
    reply = voice.reply(question["messages"], Manner(**question["manner"]))
    while questions.stopped < question["number"]:
        try:
            piece = next(reply)
        except StopIteration as end:
            return str(end.value or "")
        send(events, {"event": "piece", "text": piece})
    reply.close()
    return "stopped"


class _Questions:
    """Questions as they come, and the number of the last one whose answer is to be stopped."""

    def __init__(self, pipe: int) -> None:
        self.stopped = 0
        self._waiting: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._lines = os.fdopen(pipe, encoding="utf-8")
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> dict[str, Any] | None:
        """The next question, once it is there; None after the last."""
        return self._waiting.get()

    def _read(self) -> None:
        for line in self._lines:
            said = json.loads(line)
            if "stop" in said:
                self.stopped = said["stop"]
            else:
                self._waiting.put(said)
        self._waiting.put(None)


if __name__ == "__main__":
    serve(*(int(argument) for argument in sys.argv[1:3]))
