"""A tracker tells another tool how a run gets on. This is the contract between the core and every plugin."""

# No annotations from __future__ here, as in stages.py.
from collections.abc import Iterable
from typing import ClassVar

from .errors import Finding
from .lifecycle import RunFinished, RunStarted, StepFinished, StepMetrics, StepStarted
from .stages import Config


class Follower:
    """A tracker at work on one run: it is told what the hooks of the same names are told, in order.

    What a method raises is told to the person once, and the next call comes all the same. May be as slow as it likes:
    the run does not wait for it before it is over itself.
    """

    place: str = ""
    """Where the person can look: a folder or a link. May become known while the run goes on."""

    def step_started(self, event: StepStarted) -> None: ...

    def step_metrics(self, event: StepMetrics) -> None: ...

    def step_finished(self, event: StepFinished) -> None: ...

    def run_finished(self, event: RunFinished) -> None:
        """The last call: what is not uploaded yet is uploaded here. Also made when the run was killed."""


class Tracker(Config):
    """One tool that runs are told of: fields are its options, the docstring its documentation.

    `check` is asked in the process of the command; `open` in the tracker's own, which satisfies `needs`.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Requirement strings; where this interpreter does not satisfy them, an environment is made that does."""

    def check(self) -> Iterable[Finding]:
        """Why runs could not be tracked, as far as it can be known without the tool itself."""
        return ()

    def open(self, run: RunStarted) -> Follower:
        """Begins to follow a run. Heavy imports live here."""
        raise NotImplementedError
