"""What the data methods have in common: options, checks and the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

from tuneforge import Adapter, Config, Facts, Field, Finding, Format, Known, Model, Source, Step, StepError

from .advice import expected, on_columns, on_length, on_rows
from .reading import Rows
from .shapes import Recogniser, Row, Shape

PATHS = ("data", "data_files", "data_path", "dataset", "datasets", "dataset_name", "dataset_path", "train_file")
"""What other tools call the path of the data."""


class Columns(Config):
    """What the columns of a data set are called: ours on the left, theirs on the right."""

    @property
    def renames(self) -> dict[str, str]:
        """Theirs by ours, of the columns that were given."""
        named = {ours: getattr(self, ours) for ours in type(self).model_fields}
        return {ours: theirs for ours, theirs in named.items() if theirs is not None}

    @classmethod
    def called(cls) -> dict[str, list[str]]:
        """What other data sets call each of our columns."""
        extras: dict[str, Any] = {ours: field.json_schema_extra or {} for ours, field in cls.model_fields.items()}
        return {ours: extra.get("also", []) for ours, extra in extras.items()}


class DataFormat(Format):
    """Raw rows into rows of one form, split by a hash of the prompt."""

    engine = "tuneforge_data.collect"
    shapes: ClassVar[tuple[Shape, ...]]
    """The shapes of rows that this method knows."""

    path: Source = Field(
        description="A file of rows (.json, .jsonl, .csv, .tsv, also with .gz; .parquet), or a folder of such files.",
        also=PATHS,
    )
    shape: str = "auto"
    columns: Columns = Columns()
    holdout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of prompts kept from training, for evaluation; told by a hash of the prompt, so that "
        "data steps with the same share hold out the same prompts.",
        also=("val_set_size", "val_size", "validation_split", "test_size", "eval_split", "test_split"),
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="Reads only that many rows, the first ones.",
        also=("max_samples", "max_train_samples", "num_samples", "max_rows"),
    )
    max_left_out: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of rows that may be left out as unusable before the step fails.",
    )

    @property
    def holds_out_prompts(self) -> bool:
        """Whether what is held out are prompts, which other data steps may have, too."""
        return True

    def foresee(self, facts: Known) -> Facts:
        rows, row_bytes = expected(self.rows, self.recogniser(), self.limit, self.holdout)
        return Facts(self.output, rows=rows, row_bytes=row_bytes)

    def rows(self) -> Rows:
        """The raw rows. Raises StepError for what is not there."""
        return Rows(self.path)

    def recogniser(self) -> Recogniser:
        """Of the shapes, those that the configuration leaves: renamed columns must mean something to them."""
        renames = self.columns.renames
        shapes = [
            shape
            for shape in self.shapes
            if self.shape in ("auto", shape.name) and all(ours in shape.columns for ours in renames)
        ]
        return Recogniser(shapes, renames)

    def check(self, facts: Known) -> Iterable[Finding]:
        recogniser = self.recogniser()
        yield from on_columns(self.shape, recogniser, self.shapes)
        if recogniser.shapes:
            called = self.columns.called()
            yield from on_rows(self.path.name, self.rows, recogniser, called, self.limit, self.max_left_out)

    def collect(self, step: Step, fits: Callable[[Row], None] | None = None) -> None:
        """Reads, converts, splits and writes the rows; `fits` raises LeftOutError for one that does not."""
        from .collect import collect

        collect(
            self.rows(),
            self.recogniser(),
            step,
            holdout=self.holdout,
            limit=self.limit,
            fits=fits,
            max_left_out=self.max_left_out,
        )


class Conversations(DataFormat):
    """Raw rows into rows of chat templates."""

    needs = ("ijson>=3.2", "pyarrow>=20", "transformers>=5")

    system: str | None = Field(
        None,
        description="The system prompt of rows that have none of their own.",
        also=("default_system", "system_prompt", "system_message"),
    )
    max_length: int | None = Field(
        None,
        ge=1,
        description="Rows of more tokens, template included, are left out and counted; never cut. Needs `model`.",
        also=("cutoff_len", "sequence_len", "max_seq_length", "max_seq_len", "model_max_length", "block_size"),
    )

    def recogniser(self) -> Recogniser:
        return replace(super().recogniser(), system=self.system)

    def check(self, facts: Known) -> Iterable[Finding]:
        yield from on_length(self.max_length, facts.get("model", ()))
        yield from super().check(facts)

    def run(self, *, model: Model | Adapter | None = None, step: Step) -> None:
        fits = None
        if self.max_length is not None:
            if model is None:
                raise StepError("max_length counts tokens, and no model is given", "Give the step a model.")
            from .lengths import AtMost

            fits = AtMost(self.max_length, model)
        self.collect(step, fits)
