"""What every publication with a model card shares: what only a person can say of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import StringConstraints

from tuneforge import Field, Finding, Gguf, GgufAdapter, Known, Publish

from .judged import Judged

HubName = Annotated[str, StringConstraints(pattern=r"^([\w-][\w.-]*/)?[\w-][\w.-]*$")]
Relation = Literal["finetune", "adapter", "quantized", "merge"]


class Carded(Judged, Publish):
    """A publication with a model card."""

    title: str = Field("", description="What the model is called on its card; by default as the recipe is.")
    license: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.+-]*$")] = Field(
        "",
        description="The model's licence as the Hub names it, such as `apache-2.0`, or `other`; by default none is "
        "stated.",
        also=("licence",),
    )
    license_name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.+-]*$")] = Field(
        "", description="What a licence is called for which the Hub has no name: `llama4`. Needs `license: other`."
    )
    license_link: str = Field(
        "", description="Where that licence is to be read: a URL, or LICENSE for a file of the release."
    )
    language: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")], ...] = Field(
        (), description="The model's languages as ISO 639 codes, such as `[en]`."
    )
    base_model: HubName | None = Field(
        None, description="The base model's name on the Hub, such as `org/name`: adapters are released without it."
    )
    base_model_relation: Relation | None = Field(
        None, description="What the release is of its base model; by default what the lineage says it is."
    )
    datasets: tuple[HubName, ...] = Field(
        (), description="Names on the Hub of the data sets that the data is from, beside those that it was read from."
    )
    intended_use: str = Field(
        "", description="What the model is for, and what it is not for, in Markdown; by default the card says nothing."
    )

    def check(self, facts: Known) -> Iterator[Finding]:
        if self.license == "other" and not (self.license_name and self.license_link):
            yield Finding(
                "license is other, and the card does not say which",
                "Give license_name and license_link as well.",
                field="license",
            )
        elif self.license != "other" and (self.license_name or self.license_link):
            named = "license_name" if self.license_name else "license_link"
            yield Finding(f"{named} is for a licence without a name on the Hub", "Write license: other.", field=named)
        kinds = [known.kind for known in facts.get("artifacts", ())]
        if GgufAdapter in kinds and Gguf not in kinds:
            yield Finding(
                "an adapter in GGUF is to be released without its base model in GGUF",
                "Quantize the base model with `gguf` as well, and name that step in artifacts:.",
            )
