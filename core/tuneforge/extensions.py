"""An extension adds steps to recipes, such as checks that belong after every export. This is its contract."""

# No annotations from __future__ here, as in stages.py.
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .artifacts import Artifact
from .stages import Config

if TYPE_CHECKING:
    from .recipe import StepSpec


@dataclass(frozen=True)
class Addition:
    """A step to be added after the step `of`, under the name `of.name`: it is planned and run like a written one.

    `inputs` are names of steps, additions among them, or of artifacts of the registry. `into` names written steps and
    their inputs that are to be wired to it as well, such as the reports of a publication; those inputs take many.
    """

    of: str
    name: str
    stage: str
    method: str
    inputs: Mapping[str, Sequence[str]]
    options: Mapping[str, Any] = field(default_factory=dict)
    into: Sequence[tuple[str, str]] = ()

    @property
    def step(self) -> str:
        # No written step can bear such a name.
        return f"{self.of}.{self.name}"


@dataclass(frozen=True)
class Wiring:
    """A written `step` that others are to be wired to where they are not, as by `Addition.into`."""

    step: str
    into: Sequence[tuple[str, str]]


class Extension(Config):
    """Steps that recipes have without naming them: fields are its options, the docstring its documentation.

    It is at work in every recipe that does not switch it off (`extensions: {name: false}`).
    """

    name: ClassVar[str]

    def extend(
        self, steps: "Mapping[str, StepSpec]", kinds: Mapping[str, type[Artifact]]
    ) -> Iterable[Addition | Wiring]:
        """What it adds to such steps, which are in an order in which they can be carried out; without torch.

        `kinds` tells what they give, and what artifacts of the registry are, as far as that is known.
        """
        raise NotImplementedError
