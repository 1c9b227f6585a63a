"""A server answers programs that speak OpenAI's protocol, out of artifacts of some kinds. The contract with plugins."""

# No annotations from __future__ here, as in stages.py.
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from .artifacts import Artifact, Facts
from .errors import Finding
from .stages import Config


@dataclass(frozen=True)
class Terms:
    """How an artifact is served.

    Clients reach it at `host`, an address in numbers, and `port`; they call it `name` and, if there are `keys`, show
    one of them. `context` bounds a conversation with its answer, in tokens, where the model's own does not; None leaves
    it to the server. `threads` are those of the CPU that an answer may use.
    """

    host: str
    port: int
    name: str
    keys: tuple[str, ...] = ()
    context: int | None = None
    threads: int = 1


class Server(Config):
    """One way to serve artifacts of the given `kinds`, and of kinds below them; the docstring is its documentation.

    The class is made and asked to `check` in the process of the command, and made and asked to `serve` in a process of
    its own; it has no options.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[type[Artifact], ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    """Requirement strings; where this interpreter does not satisfy them, an environment is made that does."""
    bases: ClassVar[Mapping[type[Artifact], tuple[type[Artifact], ...]]] = {}
    """Kinds that are served on another artifact, which the person names: one of these kinds, made of the same base."""

    tells: ClassVar[str] = ""
    """A regular expression: of what is printed once clients may come, the lines in which it is found are shown."""

    def preference(self) -> int:
        """Where several servers can serve an artifact on this machine, the one with the highest figure does it."""
        return 0

    def check(self, facts: Facts, terms: Terms) -> Iterable[Finding]:
        """Why an artifact cannot be served so on this machine, as far as it can be known without loading it."""
        return ()

    def requires(self, facts: Facts) -> tuple[str, ...]:
        """Requirement strings for such an artifact: `needs`, and what it asks for besides."""
        return self.needs

    def serve(self, artifact: Artifact, base: Artifact | None, terms: Terms) -> None:
        """Serves the artifact until its process is ended, which comes without warning.

        GET /health answers with 200 as soon as clients may come, and before that with anything else. What is printed
        from then on is for the person to see, see `tells`: a line a request. What a request does not say is as OpenAI
        documents it (temperature and top_p are 1), whatever the model's own settings of sampling. No page of another
        site that is open in a browser may read an answer. Raises StepError for what cannot be served.
        """
        raise NotImplementedError
