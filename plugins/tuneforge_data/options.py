"""What the data methods have in common: options, checks and the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, Self

from pydantic import PrivateAttr, model_validator

from tuneforge import Adapter, Config, Facts, Field, Finding, Format, Known, Model, Source, Step, StepError
from tuneforge.kit.hub import CLIENT, no_token

from .advice import expected, on_columns, on_length, on_rows
from .hub import EVERYTHING, Seen, Wanted
from .reading import TABLES, Readers, Rows
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

    path: Source | None = Field(
        None,
        description="A file of rows (.json, .jsonl, .csv, .tsv, also with .gz; .parquet), or a folder of such files.",
        also=PATHS,
    )
    repo: str | None = Field(
        None,
        min_length=1,
        description="In place of path, a data set of the Hugging Face Hub, `owner/name`, with such files.",
        also=("repo_id", "hub_id", "hf_dataset", "hf_hub_url"),
    )
    revision: str | None = Field(
        None,
        min_length=1,
        description="A branch, a tag or a full commit of repo; by default main. What a branch or tag stands for is "
        "looked up at every plan.",
        also=("dataset_revision", "hf_revision"),
    )
    files: str = Field(
        EVERYTHING,
        min_length=1,
        description='Which files of a folder or repo are read, as a pattern: "data/train-*.parquet", "*.md".',
        also=("glob", "pattern", "file_pattern", "split", "dataset_split"),
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

    _no_token = model_validator(mode="before")(no_token)

    _seen: Seen | None = PrivateAttr(None)

    @property
    def readers(self) -> Readers:
        """The files that can be read, by the end of their names."""
        return TABLES

    def requires(self, facts: Known) -> tuple[str, ...]:
        return (*self.needs, CLIENT) if self.repo else self.needs

    def pin(self) -> Self:
        wanted = self._wanted()
        if wanted is None:
            return self
        seen = self._look(wanted)
        pinned = self.model_copy(update={"revision": seen.commit})
        pinned._seen = seen
        return pinned

    def foresee(self, facts: Known) -> Facts:
        if self._unread:
            return Facts(self.output)
        rows, row_bytes = expected(self.rows, self.recogniser(), self.limit, self.holdout)
        return Facts(self.output, rows=rows, row_bytes=row_bytes)

    def rows(self) -> Rows:
        """The raw rows. Raises StepError for what is not there; what is on the Hub is fetched."""
        wanted = self._wanted()
        if wanted is not None:
            seen = self._seen
            folder, names = (seen.folder, seen.names) if seen and seen.folder else wanted.fetch()
            return Rows(folder, readers=self.readers, only=names)
        if self.path is None:
            raise StepError("there is no data: neither path nor repo is given", "Give one of them.")
        return Rows(self.path, self.files, self.readers)

    @property
    def called(self) -> str:
        """What a person knows the data by."""
        return self.repo or (self.path.name if self.path else "")

    @property
    def _unread(self) -> bool:
        """Whether a plan cannot look at the rows: they are nowhere, or on the Hub and not here."""
        wanted = self._wanted()
        return self.path is None if wanted is None else self._look(wanted).folder is None

    def _wanted(self) -> Wanted | None:
        if self.repo is None:
            return None
        return Wanted(self.repo, self.revision or "main", self.files, frozenset(self.readers))

    def _look(self, wanted: Wanted) -> Seen:
        """What the Hub says, asked once."""
        if self._seen is None:
            self._seen = wanted.look()
        return self._seen

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
        wanted = self._wanted()
        if (self.path is None) == (wanted is None):
            given = "both path and repo are" if wanted else "neither path nor repo is"
            yield Finding(f"{given} given, and data is read from one of them", "Give one of them.", field="path")
            return
        if self.revision and wanted is None:
            yield Finding("revision is of a data set of the Hub, and path is none", "Take it out.", field="revision")
        if wanted is not None:
            yield from self._look(wanted).findings
        recogniser = self.recogniser()
        yield from on_columns(self.shape, recogniser, self.shapes)
        if recogniser.shapes and not self._unread:
            called = self.columns.called()
            found = on_rows(self.called, self.rows, recogniser, called, self.limit, self.max_left_out)
            for finding in found:
                yield replace(finding, field="repo") if wanted and finding.field == "path" else finding

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
