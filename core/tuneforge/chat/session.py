"""A chat at a terminal: questions and commands, until the person leaves."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import FrameType

from .conversation import Conversation
from .screen import Screen

HELP = {
    "/again": "ask the last question again",
    "/undo": "forget the last question and its answers",
    "/new": "forget everything but the system message",
    "/system TEXT": "set the system message; alone, take it away",
    "/save FILE": "append to a JSON Lines file, as training rows",
    "/help": "show this",
    "/quit": "leave, as Ctrl-D does",
}
_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)
# For readline, what is between \x01 and \x02 has no width.
_PROMPT, _COLOURED = "> ", "\x01\x1b[1;32m\x02> \x01\x1b[0m\x02"


class Session:
    """What is typed, and what is done about it."""

    def __init__(self, conversation: Conversation, screen: Screen, *, coloured: bool) -> None:
        self._conversation = conversation
        self._screen = screen
        self._prompt = _COLOURED if coloured else _PROMPT
        self._left = False
        self._last = ""  # what was asked last, answered or not

    def hold(self) -> None:
        """Until the person leaves. Raises GoneError, and KeyboardInterrupt where an answer is interrupted twice."""
        import readline  # from here on, lines can be edited, and come again

        readline.parse_and_bind("set enable-bracketed-paste on")  # pasted lines are one question

        self._screen.note("/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves")
        while not self._left:
            try:
                line = self._read().rstrip()
            except EOFError:
                self._screen.note("")
                return
            except KeyboardInterrupt:  # of a line that is being typed
                self._screen.note("")
                continue
            if command := _COMMAND.fullmatch(line):
                self._obey(command[1], (command[2] or "").strip())
            elif line:
                self._ask(line.strip())

    def _read(self) -> str:
        if sys.stdout.isatty():
            return input(self._prompt)
        sys.stderr.write(_PROMPT)  # only answers go to where standard output goes
        sys.stderr.flush()
        return input()

    def _ask(self, question: str) -> None:
        self._last = question
        with self._interrupts():
            self._conversation.ask(question, self._screen)
        self._screen.note("")

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Ctrl-C ends the answer that is being written, not the process; asked for twice, it does."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            if not self._conversation.stop():
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _obey(self, name: str, argument: str) -> None:
        commands = {
            "again": self._again,
            "undo": self._undo,
            "new": self._new,
            "system": self._system,
            "save": self._save,
            "help": self._help,
            "quit": self._quit,
        }
        if name not in commands:
            near = get_close_matches(name, commands, 1)
            hint = f"did you mean /{near[0]}?" if near else "/help lists them."
            self._screen.problem(f"there is no command /{name}: {hint}")
        else:
            commands[name](argument)

    def _again(self, argument: str) -> None:
        if not self._last:
            self._screen.problem("nothing was asked yet")
            return
        turns = self._conversation.turns
        # What failed, or was stopped before its first word, is no turn.
        before = [turns.pop()] if turns and turns[-1].question == self._last else []
        rest = len(turns)
        self._ask(self._last)
        if len(turns) == rest:
            turns.extend(before)

    def _undo(self, argument: str) -> None:
        if self._conversation.turns:
            turn = self._conversation.turns.pop()
            self._last = self._conversation.turns[-1].question if self._conversation.turns else ""
            self._screen.note(f"forgotten: {turn.question}")
        else:
            self._screen.problem("nothing was asked yet")

    def _new(self, argument: str) -> None:
        self._conversation.turns.clear()
        self._last = ""
        self._screen.note("a new conversation")

    def _system(self, argument: str) -> None:
        self._conversation.system = argument
        self._screen.note(f"system message: {argument}" if argument else "no system message")

    def _save(self, argument: str) -> None:
        rows = list(self._conversation.rows())
        if not argument or not rows:
            self._screen.problem("nothing was answered yet" if argument else "which file? /save FILE")
            return
        path = Path(argument).expanduser()
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"messages": row}, ensure_ascii=False) + "\n" for row in rows)
        except OSError as error:
            self._screen.problem(f"{path}: {error.strerror}")
        else:
            self._screen.note(f"appended to {path}: {len(rows)} conversation{'s' if len(rows) > 1 else ''}")

    def _help(self, argument: str) -> None:
        for command, does in HELP.items():
            self._screen.note(f"{command:14}{does}")
        self._screen.note("A question that looks like a command: a space before it.")

    def _quit(self, argument: str) -> None:
        self._left = True
