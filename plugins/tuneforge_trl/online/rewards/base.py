"""What the rewards of a recipe have in common: an answer comes in, a number goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from tuneforge import Config, Field, Finding


@dataclass(frozen=True)
class Answer:
    """What a model wrote to a prompt: its text without stop tokens, white space around it aside.

    `tokens` is its length, the stop token included; `reference` is what the data has as the right answer.
    """

    prompt: Sequence[Mapping[str, Any]]
    text: str
    reference: str | None
    tokens: int


Scorer = Callable[[Answer], float]


class Rule(Config):
    """One reward of a recipe: its fields are its options."""

    model_config = ConfigDict(defer_build=True)

    compares: ClassVar[bool] = False
    """Whether it cannot judge an answer without a reference."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z]\w*$",
        description="What its figure is called, reward_<name>; by default its type.",
    )
    weight: float = Field(1.0, description="What it is multiplied by; the weighted rewards of an answer are summed.")

    @property
    def called(self) -> str:
        """The name of its figure."""
        return self.name or str(self.__dict__["type"]).replace("-", "_")

    def check(self) -> Iterator[Finding]:
        """What is wrong with it, as far as that can be told before anything runs."""
        yield from ()

    def lacks(self, reference: str | None) -> str:
        """Why answers cannot be compared with a reference; empty if they can."""
        return "without a reference" if self.compares and reference is None else ""

    def scorer(self) -> Scorer:
        """The reward itself. Whatever it raises ends the step."""
        raise NotImplementedError
