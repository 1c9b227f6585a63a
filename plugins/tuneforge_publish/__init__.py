"""Publishing: artifacts brought to where others use them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import StringConstraints

from tuneforge import Adapter, Field, Finding, Gguf, Known, Model, Publish, Release, Report, Step, Target, hookimpl
from tuneforge.artifacts import read_json

from .judged import Judged, unknown

if TYPE_CHECKING:
    from tuneforge.plan import PlannedStep

HubName = Annotated[str, StringConstraints(pattern=r"^([\w-][\w.-]*/)?[\w-][\w.-]*$")]


class Folder(Judged, Publish):
    """A folder with everything that others need: weights, tokenizer and chat template, a model card, the lineage.

    A single artifact lies at the top of the folder, several lie in subfolders named after their steps. An adapter
    brings its base model along, unless `base_model` names it on the Hub. The card, README.md, has the metadata that
    the Hugging Face Hub reads; it tells how to run the release with transformers and llama.cpp, the scores of the
    given reports, how many rows of data were used and why others were not, and every parameter. `lineage.json` tells
    the same to programs, and `sha256sum -c SHA256SUMS` checks the files.

    The folder appears whole or not at all and replaces nothing but an earlier release. An artifact that failed one of
    the reports is refused, and so is the same model in another form, such as the GGUF file of a model that failed;
    unless the report is named under `despite`.
    """

    name = "folder"

    to: Target = Field(description="The folder to write: a new one, an empty one, or an earlier release.")
    title: str = Field("", description="What the model is called on its card; by default as the recipe is.")
    license: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.+-]*$")] = Field(
        "", description="The model's licence as the Hub names it, such as `apache-2.0`; by default none is stated."
    )
    language: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")], ...] = Field(
        (), description="The model's languages as ISO 639 codes, such as `[en]`."
    )
    base_model: HubName | None = Field(
        None, description="The base model's name on the Hub, such as `org/name`: adapters are released without it."
    )
    datasets: tuple[HubName, ...] = Field((), description="Names on the Hub of the data sets that the data is from.")

    def check(self, facts: Known) -> Iterator[Finding]:
        from .release import obstacle

        problem = obstacle(self.to)
        if problem:
            yield Finding(*problem, field="to")

    def run(self, artifacts: list[Model | Adapter | Gguf], reports: list[Report] | None = None, *, step: Step) -> None:
        from .card import Metadata, card
        from .lineage import Lineage
        from .parts import copy_part, lay_out
        from .release import written
        from .verdicts import refuse_failed

        lineage = Lineage(step.lineage)
        refuse_failed(artifacts, reports or [], lineage, self.despite, step)
        parts = lay_out(artifacts, lineage, self.base_model)
        metadata = Metadata(self.title or lineage.recipe, self.license, self.language, self.base_model, self.datasets)
        with written(self.to) as draft:
            for done, part in enumerate(parts, 1):
                copy_part(part, draft)
                step.progress(done, len(parts))
            draft.write("README.md", card(metadata, parts, lineage, reports or []))
            draft.write("lineage.json", json.dumps(step.lineage, indent=2, ensure_ascii=False) + "\n")
        receipt = {"files": dict(sorted(draft.files.items()))}
        (step.out / "receipt.json").write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")
        step.metrics(files=len(draft.files), bytes=sum(file["size"] for file in draft.files.values()))
        step.log(f"released to {self.to}")

    def holds(self, receipt: Release) -> bool:
        from .release import unchanged

        return unchanged(self.to, read_json(receipt.path / "receipt.json")["files"])


@hookimpl
def register_publish() -> list[type[Publish]]:
    return [Folder]


@hookimpl
def extend_plan(steps: Sequence[PlannedStep]) -> list[Finding]:
    """Two releases cannot share a folder, nor can one lie inside the other: each would be in the other's way. And what
    is named under `despite` must be there."""
    findings = [*unknown(steps)]
    owners: dict[Path, str] = {}
    for step in steps:
        if isinstance(step.method, Folder):
            to = step.method.to.resolve()
            for folder, owner in owners.items():
                if to == folder:
                    problem = f"{step.name} and {owner} release to one folder, {step.method.to}"
                elif to.is_relative_to(folder) or folder.is_relative_to(to):
                    problem = f"{step.name} and {owner} release one inside the other, {to} and {folder}"
                else:
                    continue
                findings.append(Finding(problem, "Give each a folder of its own.", place=step.place))
            owners.setdefault(to, step.name)
    return findings
