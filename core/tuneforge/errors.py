"""What can go wrong, said as place, problem and fix; and the exit code that goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

DONE, STEP_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Finding:
    """One thing found before anything runs. An `error` refuses the recipe, a `warning` is shown and lets it pass.

    `field` names the option it is about, dotted (`adapter.r`), so that the recipe's line can be pointed at; `place` is
    filled in by the core.
    """

    problem: str
    fix: str = ""
    level: Literal["error", "warning"] = "error"
    field: str = ""
    place: str = ""

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        kind = "warning: " if self.level == "warning" else ""
        return f"{where}{kind}{self.problem}" + (f"\n    {self.fix}" if self.fix else "")


class TuneforgeError(Exception):
    """An error a person can act on. `exit_code` is what the command line ends with."""

    exit_code = STEP_FAILED

    def __init__(self, problem: str, fix: str = "", place: str = "") -> None:
        self.finding = Finding(problem, fix, place=place)
        super().__init__(str(self.finding))


class StepError(TuneforgeError):
    """A step that cannot do its work: raised by methods, with what to change."""


class RefusedError(TuneforgeError):
    """The recipe or the command is wrong; carries every problem that was found."""

    exit_code = REFUSED

    def __init__(self, findings: Iterable[Finding] | str, fix: str = "", place: str = "") -> None:
        self.findings = [Finding(findings, fix, place=place)] if isinstance(findings, str) else list(findings)
        self.finding = self.findings[0]
        Exception.__init__(self, "\n".join(str(finding) for finding in self.findings))


class PluginError(RefusedError):
    """A plugin that cannot be imported, or breaks the contract."""
