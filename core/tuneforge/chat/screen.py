"""How a person sees a chat."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.status import Status
from rich.text import Text

from ..console import open_console
from ..errors import TuneforgeError

_STYLES = ("bold cyan", "bold magenta", "bold yellow", "bold blue")
# What a model writes must not steer the terminal.
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Screen:
    """Answers go to standard output, each under its label if there are several; all else goes to standard error."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._out, self._errors = open_console(), open_console(stderr=True)
        self._status: Status | None = None
        self._written = ""
        self._begun = False

    def wait(self, text: str | None) -> None:
        """Shows in a terminal that there is something to wait for; given None, shows it no longer."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        if text is not None and self._errors.is_terminal:
            self._status = self._errors.status(Text(text, "dim"))
            self._status.start()

    def note(self, text: str) -> None:
        """What is not an answer."""
        self._errors.print(text, style="dim", markup=False, soft_wrap=True)

    def problem(self, problem: object) -> None:
        self._errors.print(str(problem), style="red", markup=False, soft_wrap=True)

    def begin(self, place: int) -> None:
        """An answer begins: its label is shown, and until its first piece that it is waited for."""
        if len(self._labels) > 1:
            label = self._labels[place]
            if self._out.is_terminal:
                self._out.print(Text(f"── {label}", _STYLES[place % len(_STYLES)]), soft_wrap=True)
            else:
                self._write(f"\n## {label}\n" if self._begun else f"## {label}\n")
        self._written, self._begun = "", True
        self.wait("")

    def piece(self, text: str) -> None:
        if self._status is not None:
            self.wait(None)
        self._written += text
        self._write(text.translate(_CONTROLS) if self._out.is_terminal else text)

    def end(self, cut: str, problem: TuneforgeError | None = None) -> None:
        self.wait(None)
        if problem is not None:
            self.problem(problem)
            return
        if not self._written.endswith("\n"):
            self._write("\n")
        if cut or not self._written.strip():
            self.note(f"({cut or 'an empty answer'})")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
