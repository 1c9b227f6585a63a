"""A speaker lets a person talk to artifacts of some kinds. This is the contract between the core and every plugin."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypedDict

from .artifacts import Artifact, Facts
from .errors import Finding, StepError


class Message(TypedDict):
    """What one party said; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Manner:
    """How an answer is to be written.

    At `temperature` 0 the likeliest token is taken each time. Above it, logits are divided by it, and a token is drawn,
    by `seed` (below 2**32), from the likeliest ones that together have the probability `top_p`. An answer has at most
    `max_tokens` tokens.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def room(self, prompt: int, context: int | None) -> tuple[int, str]:
        """How many tokens the answer to a prompt of that many may have, and what to say of an answer cut off there.

        Raises StepError when the prompt leaves no room in the context.
        """
        if context is None or prompt + self.max_tokens <= context:
            return self.max_tokens, f"cut off after {self.max_tokens} tokens, as --max-tokens says"
        if prompt >= context:
            raise StepError(
                f"the conversation has {prompt} tokens, which fills the context of {context} tokens",
                "Begin a new conversation, say less at once, or give it more with --context if the model has more.",
            )
        return context - prompt, f"cut off: the context of {context} tokens is full"


class Voice(Protocol):
    """An artifact that is loaded and ready to answer."""

    def reply(self, messages: Sequence[Message], manner: Manner) -> Generator[str, None, str]:
        """Yields the answer to a conversation as it is written, in pieces of whole characters.

        Returns what ended the answer instead of the model, for the person to read; nothing if the model ended it. May
        be closed before its end. Raises StepError for a conversation that cannot be answered, such as one that fills
        the context (see `Manner.room`).
        """
        ...


class Speaker:
    """One way to talk to artifacts of the given `kinds`, and of kinds below them that have no speaker of their own.

    The class is made and asked to `check` in the process of the command, and made and asked to `open` in the process
    that speaks, one an artifact; it takes no arguments.
    """

    kinds: ClassVar[tuple[type[Artifact], ...]]
    needs: ClassVar[tuple[str, ...]] = ()
    """Requirement strings; where this interpreter does not satisfy them, an environment is made that does."""
    engine: ClassVar[str] = ""
    """The module with the heavy imports: it is imported once, before a process is forked for each artifact."""

    def requires(self, facts: Facts) -> tuple[str, ...]:
        """The requirement strings for this artifact: `needs`, and what its form asks for besides."""
        return self.needs

    def check(self, facts: Facts) -> Iterable[Finding]:
        """Why an artifact cannot be talked to, as far as it can be known without loading it; without torch."""
        return ()

    def open(self, artifact: Artifact, threads: int, context: int | None) -> Voice:
        """Loads the artifact. `context` bounds a conversation with its answer, in tokens, where the model's own does
        not; None leaves it to the speaker."""
        raise NotImplementedError
