"""What every publication into a folder shares: where it is written, what is told of it, and how long it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import StringConstraints

from tuneforge import Field, Finding, Gguf, GgufAdapter, Known, Publish, Release, Target
from tuneforge.artifacts import read_json

from .judged import Judged

HubName = Annotated[str, StringConstraints(pattern=r"^([\w-][\w.-]*/)?[\w-][\w.-]*$")]


class ToFolder(Judged, Publish):
    """A publication into a folder, which appears whole or not at all."""

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
        kinds = [known.kind for known in facts.get("artifacts", ())]
        if GgufAdapter in kinds and Gguf not in kinds:
            yield Finding(
                "an adapter in GGUF is to be released without its base model in GGUF",
                "Quantize the base model with `gguf` as well, and name that step in artifacts:.",
            )

    def holds(self, receipt: Release) -> bool:
        from .release import unchanged

        return unchanged(self.to, read_json(receipt.path / "receipt.json")["files"])


class Served(ToFolder):
    """A publication for one engine that serves."""

    context: int | None = Field(
        None,
        ge=1,
        description="The longest conversation to serve, in tokens; by default what the model was made for, with GGUF "
        "files at most 8192, and with TGI what the GPU has room for.",
        also=("num_ctx", "n_ctx", "ctx_size", "max_model_len", "max_total_tokens"),
    )
