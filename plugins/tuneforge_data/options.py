"""What the data methods have in common: options, checks and the run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tuneforge import Adapter, Config, Facts, Field, Finding, Format, Known, Model, Source, Step, StepError

from .advice import expected, on_columns, on_length, on_rows
from .shapes import Recogniser, Shape


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
    """Raw rows into rows of chat templates, split by a hash of the prompt."""

    needs = ("ijson>=3.2", "pyarrow>=20", "transformers>=5")
    engine = "tuneforge_data.collect"
    shapes: ClassVar[tuple[Shape, ...]]
    """The shapes of rows that this method knows."""

    path: Source = Field(
        description="A file of rows (.json, .jsonl, .csv, .tsv, also with .gz; .parquet), or a folder of such files.",
        also=("data", "data_files", "data_path", "dataset", "datasets", "dataset_name", "dataset_path", "train_file"),
    )
    shape: str = "auto"
    columns: Columns = Columns()
    system: str | None = Field(
        None,
        description="The system prompt of rows that have none of their own.",
        also=("default_system", "system_prompt", "system_message"),
    )
    holdout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of prompts kept from training, for evaluation; told by a hash of the prompt, so that "
        "data steps with the same share hold out the same prompts.",
        also=("val_set_size", "val_size", "validation_split", "test_size", "eval_split", "test_split"),
    )
    max_length: int | None = Field(
        None,
        ge=1,
        description="Rows of more tokens, template included, are left out and counted; never cut. Needs `model`.",
        also=("cutoff_len", "sequence_len", "max_seq_length", "max_seq_len", "model_max_length", "block_size"),
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

    def check(self, facts: Known) -> Iterable[Finding]:
        recogniser = self._recogniser()
        yield from on_columns(self.shape, recogniser, self.shapes)
        yield from on_length(self.max_length, facts.get("model", ()))
        if recogniser.shapes:
            yield from on_rows(self.path, recogniser, self.columns.called(), self.limit, self.max_left_out)

    def foresee(self, facts: Known) -> Facts:
        rows, row_bytes = expected(self.path, self._recogniser(), self.limit, self.holdout)
        return Facts(self.output, rows=rows, row_bytes=row_bytes)

    def run(self, *, model: Model | Adapter | None = None, step: Step) -> None:
        from .collect import collect
        from .reading import Rows

        fits = None
        if self.max_length is not None:
            if model is None:
                raise StepError("max_length counts tokens, and no model is given", "Give the step a model.")
            from .lengths import AtMost

            fits = AtMost(self.max_length, model)
        collect(
            Rows(self.path),
            self._recogniser(),
            step,
            holdout=self.holdout,
            limit=self.limit,
            fits=fits,
            max_left_out=self.max_left_out,
        )

    def _recogniser(self) -> Recogniser:
        """Of the shapes, those that the configuration leaves: renamed columns must mean something to them."""
        renames = self.columns.renames
        shapes = [
            shape
            for shape in self.shapes
            if self.shape in ("auto", shape.name) and all(ours in shape.columns for ours in renames)
        ]
        return Recogniser(shapes, renames, self.system)
