"""`publish: hub`: a repository of the Hugging Face Hub, or of any server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import StringConstraints, model_validator

from tuneforge import Adapter, Field, Finding, Gguf, GgufAdapter, Known, Model, QuantizedModel, Release, Report, Step
from tuneforge.artifacts import read_json
from tuneforge.kit.hub import no_token

from ..carded import Carded, HubName

Revision = Annotated[str, StringConstraints(pattern=r"^[\w-][\w./-]*$")]


class Hub(Carded):
    """A repository of the Hugging Face Hub with all that `publish: folder` writes: weights, card, lineage, checksums.

    HF_ENDPOINT says which Hub. The token is the client's own, HF_TOKEN or that of `hf auth login`, and never an option:
    that it may write to the repository is asked when the recipe is planned. The repository is made if it is not there.

    A file that is there already is not sent, and a publication that would change nothing makes no commit. What was
    interrupted goes on: large files are sent one after the other, those that arrived stay, and nobody sees anything of
    it before the single commit at the end. That commit also removes what an earlier release brought and this one has
    not; other files of the repository stay as they are. With `dry_run`, the changes are only listed.

    It is refused for the reasons of `publish: folder`.
    """

    name = "hub"
    needs = ("huggingface_hub>=2.4",)
    engine = "tuneforge_publish.hub.upload"

    repo: HubName = Field(
        description="The repository, `owner/name`.", also=("repo_id", "hub_model_id", "push_to_hub_model_id", "to")
    )
    private: bool = Field(
        True,
        keyed=False,
        description="Whether a repository that is made can be seen by its owners alone; one that is there stays as it "
        "is.",
        also=("hub_private_repo",),
    )
    branch: Revision = Field(
        "main", description="The branch to commit to; made if it is not there.", also=("revision",)
    )
    tag: Revision | None = Field(
        None, description="A tag for the commit. One that is there is never moved: other content needs another tag."
    )
    message: str = Field(
        "Publish with tuneforge",
        keyed=False,
        min_length=1,
        description="The commit's message.",
        also=("commit_message",),
    )
    dry_run: bool = Field(
        False, description="Changes nothing: logs which files would be added, changed and removed.", also=("dry",)
    )

    _no_token = model_validator(mode="before")(no_token)

    def check(self, facts: Known) -> Iterator[Finding]:
        yield from super().check(facts)
        yield from _unlike([known.kind for known in facts.get("artifacts", ())])
        try:
            from .access import findings
        except ImportError:
            yield Finding(
                f"whether {self.repo} can be written to is not known: huggingface_hub is not installed here",
                f"Install '{self.needs[0]}' here too, to be told before the first step runs.",
                level="warning",
            )
            return
        yield from findings(self)

    def holds(self, receipt: Release) -> bool:
        if self.dry_run:  # what would go is to be told each time
            return False
        try:
            from .access import stands
        except ImportError:
            return False
        return stands(self.repo, self.branch, self.tag, read_json(receipt.path / "receipt.json"))

    def run(
        self,
        artifacts: list[Model | Adapter | QuantizedModel | Gguf | GgufAdapter],
        reports: list[Report] | None = None,
        *,
        step: Step,
    ) -> None:
        from ..bundle import Bundle, Dressing
        from .shipment import Shipment
        from .upload import upload
        from .usage import Place, usage

        bundle = Bundle(self, artifacts, reports or [], step)
        shipment = Shipment()
        at = Place(self.repo, None if self.branch == "main" else self.branch)
        bundle.fill(shipment, Dressing(list(usage(bundle, at))))
        shipment.sum_up()
        upload(self, shipment, step)


def _unlike(kinds: list[type]) -> Iterator[Finding]:
    forms = {"GGUF" if kind in (Gguf, GgufAdapter) else "transformers" for kind in kinds}
    if len(forms) > 1:
        yield Finding(
            "one repository is to hold a model in several forms, each in a folder, and the Hub knows one form of each "
            "repository",
            "Publish each form to a repository of its own, as `name` and `name-GGUF`, to be found and run by name.",
            level="warning",
        )
