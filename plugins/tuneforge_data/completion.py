"""`format: completion`: texts as they are, without a chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tuneforge import Field, Source, Step, TextData

from .options import PATHS, Columns, DataFormat
from .reading import TABLES, Readers, texts
from .shapes import TEXT_SHAPES


class TextColumns(Columns):
    """What a data set calls its columns of text."""

    text: str | None = Field(
        None,
        description="A document.",
        also=("content", "document", "body", "article", "raw_content", "page_content", "field"),
    )
    prompt: str | None = Field(
        None,
        description="What the model is shown, written as the model shall read it.",
        also=("question", "query", "input", "source", "problem", "instruction"),
    )
    completion: str | None = Field(
        None,
        description="What the model shall write after the prompt, from its first space on.",
        also=("answer", "response", "reply", "output", "target", "solution", "label"),
    )


class Completion(DataFormat):
    """Texts to be learnt as they are: documents, or completions of prompts. No chat template comes into it.

    - plain text: a .txt or .md file is a document, or with `separator` several
    - text: {"text"}, a document
    - completion: {"prompt", "completion"}, joined without anything between them

    Plain text is UTF-8, its line ends become \\n. A row that cannot be used (no text in it, a text that is no UTF-8) is
    left out, counted by reason in data.json; nothing is ever cut.
    """

    name = "completion"
    output = TextData
    needs = ("ijson>=3.2", "pyarrow>=20")
    shapes = TEXT_SHAPES

    path: Source | None = Field(
        None,
        description="A file of text (.txt, .md) or of rows (.json, .jsonl, .csv, .tsv), also with .gz, or .parquet; or "
        "a folder of such files.",
        also=PATHS,
    )
    separator: str | None = Field(
        None,
        min_length=1,
        description='What stands between the documents of one text file: "\\n\\n" for blank lines, "\\n" where each '
        "line is one; a whole file is one document where it is not set.",
        also=("document_separator", "doc_separator", "delimiter", "sep"),
    )
    shape: Literal["auto", "text", "completion"] = Field(
        "auto",
        description="How rows are written; auto tells it of every row by its columns.",
        also=("formatting", "prompt_strategy", "data_format", "dataset_text_field"),
    )
    columns: TextColumns = Field(
        TextColumns(),
        description="What the data set calls its columns, where it has other names: {text: content}.",
        also=("column_mapping", "field_mapping", "features", "text_column"),
    )

    @property
    def holds_out_prompts(self) -> bool:
        tables = {".gz", *TABLES}
        seen = self._seen.names if self._seen else ()
        name = self.path.name if self.path else next(iter(seen), "")
        documents = Path(name).suffix.lower() not in tables or self.columns.text is not None or self.shape == "text"
        return not documents

    @property
    def readers(self) -> Readers:
        return {**texts(self.separator), **TABLES}

    def run(self, *, step: Step) -> None:
        self.collect(step)
