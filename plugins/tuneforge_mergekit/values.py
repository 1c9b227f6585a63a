"""The values that merges take: one for all tensors, or by depth, by the names of tensors, and by model."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict
from pydantic import Field as Limits

from tuneforge import Config, Field

Gradient = Annotated[list[float], Limits(min_length=1)]
Share = Annotated[float, Limits(ge=0, le=1)]
Shares = Annotated[list[Share], Limits(min_length=1)]

_FILTER = "A text within the names of the tensors that the value is for, such as mlp; without one it is for all."


class Named(Config):
    """A value for the tensors whose names contain a text. The first one that fits a tensor counts."""

    model_config = ConfigDict(defer_build=True)

    filter: str | None = Field(None, description=_FILTER)
    value: float | Gradient = Field(description="A number, or a list of numbers from the first layer to the last.")


class NamedShare(Config):
    """A share for the tensors whose names contain a text. The first one that fits a tensor counts."""

    model_config = ConfigDict(defer_build=True)

    filter: str | None = Field(None, description=_FILTER)
    value: Share | Shares = Field(description="From 0 to 1, or a list of such from the first layer to the last.")


Value = float | Gradient | Annotated[list[Named], Limits(min_length=1)]
"""A number; or numbers for points at even distances from the first layer to the last, the layers between them taking
what lies between, and what is outside of layers (embeddings, head, last norm) the first; or values by names."""

ShareValue = Share | Shares | Annotated[list[NamedShare], Limits(min_length=1)]
"""The same, from 0 to 1."""

Values = float | Annotated[list[Value], Limits(min_length=1)]
"""A number for all models, or a list with a value for each."""

ShareValues = Share | Annotated[list[ShareValue], Limits(min_length=1)]


def settings(value: Value | ShareValue) -> Any:
    """A value as mergekit's configuration has it."""
    if isinstance(value, list):
        return [
            {"filter": part.filter, "value": part.value} if isinstance(part, (Named, NamedShare)) else part
            for part in value
        ]
    return value


def of_each(values: Values | ShareValues, count: int) -> list[Any]:
    """The settings of each of `count` models."""
    return [settings(value) for value in values] if isinstance(values, list) else [values] * count


def filters(values: Any) -> Iterator[Sequence[Named | NamedShare]]:
    """Every list of values by names in a value, or in the values of several models."""
    if isinstance(values, list):
        if all(isinstance(value, (Named, NamedShare)) for value in values):
            yield values
        else:
            for value in values:
                yield from filters(value)


def numbers(values: Any) -> Iterator[float]:
    """Every number in a value, or in the values of several models."""
    if isinstance(values, (Named, NamedShare)):
        yield from numbers(values.value)
    elif isinstance(values, list):
        for value in values:
            yield from numbers(value)
    else:
        yield float(values)
