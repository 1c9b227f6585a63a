"""What is said in a chat: one question after another, and what each of several partners answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..errors import TuneforgeError
from ..speakers import Manner, Message
from .partners import GoneError, Talk


@dataclass
class Turn:
    """A question, and what each partner, by place, has answered to it."""

    question: str
    answers: dict[int, str] = field(default_factory=dict)


class Listener(Protocol):
    """Whoever is told of answers as they are written, one partner's after another's."""

    def begin(self, place: int) -> None:
        """The partner at that place begins to answer."""
        ...

    def piece(self, text: str) -> None: ...

    def end(self, cut: str, problem: TuneforgeError | None = None) -> None:
        """It has ended; `cut` says what ended the answer instead of the model, `problem` why there is none."""
        ...


class Conversation:
    """What was said so far. A partner is told its own answers alone, and only the questions that it has answered."""

    def __init__(self, talks: Sequence[Talk], manner: Manner, system: str = "") -> None:
        self.system = system
        self.turns: list[Turn] = []
        self._talks = talks
        self._manner = manner
        self._answering: Talk | None = None

    def messages(self, place: int) -> list[Message]:
        """The conversation with a partner."""
        said: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            if place in turn.answers:
                said.append({"role": "user", "content": turn.question})
                said.append({"role": "assistant", "content": turn.answers[place]})
        return said

    def rows(self) -> Iterator[list[Message]]:
        """The conversation with each partner that has answered something."""
        for place in range(len(self._talks)):
            if any(place in turn.answers for turn in self.turns):
                yield self.messages(place)

    def ask(self, question: str, listener: Listener) -> bool:
        """Has the partners answer one after the other; False if one could not. What nobody answers is not kept.

        Raises GoneError when the process of one has ended.
        """
        turn, complete = Turn(question), True
        for place, talk in enumerate(self._talks):
            pieces: list[str] = []

            def tell(text: str, pieces: list[str] = pieces) -> None:
                pieces.append(text)
                listener.piece(text)

            listener.begin(place)
            self._answering = talk
            try:
                cut = talk.ask([*self.messages(place), {"role": "user", "content": question}], self._manner, tell)
            except GoneError:
                raise
            except TuneforgeError as error:
                listener.end("", error)
                complete = False
                continue
            finally:
                self._answering = None
            if pieces or not cut:
                turn.answers[place] = "".join(pieces)
            listener.end(cut)
        if turn.answers:
            self.turns.append(turn)
        # So that what is asked again is drawn again, and a session that is repeated with its seed draws the same.
        self._manner = replace(self._manner, seed=(self._manner.seed + 1) % 2**32)
        return complete

    def stop(self) -> bool:
        """Has the answer that is being written end here, from a signal's handler; False if it was asked to before."""
        return self._answering is not None and self._answering.stop()
