"""What all merges of whole models have in common: their inputs, and how the result is written."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict
from pydantic import Field as Limits

from tuneforge import Adapter, Facts, Field, Finding, Known, Merge, Model, Step

from .values import ShareValues, Values, of_each

NEEDS = ("mergekit~=0.1.5", "peft>=0.20", "torch>=2.6", "transformers>=5.20")

Dtype = Literal["float32", "bfloat16", "float16"]
Position = Annotated[int, Limits(ge=0)]

_WORDS = {"weights": "weight", "densities": "density"}
"""What mergekit calls options of ours that have another name."""

_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}

_TOKENIZER = (
    "Whose tokenizer, chat template and stop tokens the result has: {}the number of a model, from 0, or union, which "
    "has the tokens of all; where vocabularies differ, embeddings are aligned by token. Without it they are merged row "
    "by row, and the result has the tokenizer of the first model."
)


SHARD_SIZE: Any = Field(
    "5GB",
    pattern=r"^[1-9][0-9]*(kB|MB|GB)$",
    description="The largest file of weights; about as much is held in memory.",
    also=("out_shard_size", "max_shard_size"),
)
"""The option of all that write models."""


def bytes_of(size: str) -> int:
    """The same as a number."""
    return int(size[:-2]) * _UNITS[size[-2:]]


class ModelMerge(Merge):
    """Several models of one architecture, made one by mergekit."""

    model_config = ConfigDict(defer_build=True)  # a recipe has one or two of them

    needs = NEEDS
    engine = "tuneforge_mergekit.engine"

    least: ClassVar[int] = 2
    """The fewest models, the base not counted."""
    most: ClassVar[int | None] = None
    """And the most."""
    between: ClassVar[bool] = False
    """Whether the first model is where the way to the second begins: mergekit's base of such a merge."""
    stacks: ClassVar[bool] = False
    """Whether layers of the result are layers of the models, in an order of their own."""

    dtype: Dtype | None = Field(
        None, description="What weights are stored as; without it, as the models' are.", also=("out_dtype",)
    )
    compute_dtype: Dtype | None = Field(
        None,
        description="What is computed in; without it, what the models are stored as. float32 rounds only once, and "
        "takes more memory for the tensor at work.",
    )
    shard_size: str = SHARD_SIZE

    def way(self) -> str:
        """The merge by its name among mergekit's methods."""
        return self.name

    def parameters(self) -> dict[str, Any]:
        """What mergekit is told of the merge as a whole, in its own words."""
        return {}

    def each(self) -> dict[str, Values | ShareValues]:
        """The options that have a value for each model."""
        return {}

    def divides(self) -> bool:
        """Whether it divides by the sum of the models' weights."""
        return False

    def parameters_of(self, count: int) -> list[dict[str, Any]]:
        """What mergekit is told of each of the `count` models."""
        columns = {_WORDS.get(option, option): of_each(values, count) for option, values in self.each().items()}
        return [{word: values[number] for word, values in columns.items()} for number in range(count)]

    def donor(self) -> Literal["base", "union"] | int | None:
        """Whose tokenizer the result has."""
        raise NotImplementedError

    def foresee(self, facts: Known) -> Facts:
        from .foreseeing import result

        return result(self, facts)

    def check(self, facts: Known) -> Iterator[Finding]:
        from .checks import findings

        yield from findings(self, facts)


class Unbased(ModelMerge):
    """A merge of models that are all alike to it."""

    tokenizer: Literal["union"] | Position | None = Field(
        None, description=_TOKENIZER.format(""), also=("tokenizer_source",)
    )

    def run(self, models: list[Model | Adapter], step: Step) -> None:
        from .engine import carry_out

        carry_out(self, models, None, step)

    def donor(self) -> Literal["base", "union"] | int | None:
        return self.tokenizer


class Rooted(ModelMerge):
    """A merge that a base can have a part in."""

    tokenizer: Literal["base", "union"] | Position | None = Field(
        None, description=_TOKENIZER.format("base, "), also=("tokenizer_source",)
    )

    def donor(self) -> Literal["base", "union"] | int | None:
        return self.tokenizer


class Based(Rooted):
    """A merge of what models have become since they were a base."""

    def run(self, models: list[Model | Adapter], base: Model, step: Step) -> None:
        from .engine import carry_out

        carry_out(self, models, base, step)
