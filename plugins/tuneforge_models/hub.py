"""`load_model: hub`: a model of the Hugging Face Hub, at a commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

from pydantic import PrivateAttr, model_validator

from tuneforge import (
    Adapter,
    Artifact,
    Facts,
    Field,
    Finding,
    Kinds,
    Known,
    LoadModel,
    Model,
    Source,
    Step,
    StepError,
)
from tuneforge.kit.hub import CLIENT, COMMIT, no_token

from . import adapters, folders, pickled


class Layout(Protocol):
    """Which files make a model, or an adapter, and what is wrong with them: the modules `folders` and `adapters`."""

    @property
    def SETTINGS(self) -> Sequence[str]: ...  # noqa: N802
    @property
    def CONFIG(self) -> str: ...  # noqa: N802
    def foreign(self, folder: Path, /) -> Iterable[Finding]: ...
    def weights(self, folder: Path, /) -> list[str]: ...
    def lacking(self, names: Collection[str], what: str, /) -> Iterable[Finding]: ...
    def problems(self, folder: Path, /) -> list[Finding]: ...


@dataclass(frozen=True)
class Seen:
    """A model at a commit: its folder in the Hub's cache, whether its weights are there too, and what is wrong."""

    commit: str
    folder: Path | None = None
    whole: bool = False
    findings: tuple[Finding, ...] = ()


class Hub(LoadModel):
    """A model of the Hugging Face Hub, at the commit that its branch has when the recipe is planned.

    With `model`, it is a PEFT adapter on that model: a LoRA of the Hub on its base.

    The files stay in the Hub's own cache and are linked from there. HF_TOKEN or `hf auth login` give access to private
    and gated models; with HF_HUB_OFFLINE=1, or where the Hub cannot be reached, the cache answers.
    """

    name = "hub"
    needs = (CLIENT,)
    engine = "tuneforge_models.hub_client"

    repo: str = Field(description="The repository, `owner/name`.", also=("repo_id", "model_name_or_path", "base_model"))
    revision: str = Field(
        "main",
        description="A branch, a tag, or a full commit; what a branch or tag stands for is looked up at every plan.",
        also=("branch", "commit", "model_revision"),
    )
    template: Source | None = Field(
        None, description="A Jinja file with the chat template to use in place of the model's.", also=("chat_template",)
    )

    pickles: tuple[str, ...] = pickled.PICKLES

    _no_token = model_validator(mode="before")(no_token)

    _seen: dict[bool, Seen] = PrivateAttr(default_factory=dict)
    """What the Hub says of the repository: as an adapter's, and as a model's."""

    def requires(self, facts: Known) -> tuple[str, ...]:
        return (*self.needs, *pickled.NEEDS) if self.pickles else self.needs

    def writes(self, kinds: Kinds) -> type[Artifact]:
        return Adapter if kinds.get("model") else Model

    def pin(self) -> Self:
        seen = self._look()
        pinned = self.model_copy(update={"revision": seen.commit})
        pinned._seen = {False: seen}
        return pinned

    def foresee(self, facts: Known) -> Facts:
        base = facts.get("model", ())
        folder = self._look(bool(base)).folder
        if folder is None or any(finding.level == "error" for finding in self.check(facts)):
            return Facts(Adapter if base else Model, base=base[0] if base else None)
        return adapters.facts(folder, base[0]) if base else folders.facts(folder, self.template)

    def check(self, facts: Known) -> Iterable[Finding]:
        base = facts.get("model", ())
        seen = self._look(bool(base))
        for finding in seen.findings:
            yield replace(finding, field=finding.field or "repo")
        if base and self.template:
            yield Finding(
                "an adapter is trained with the template of its own, or of its base",
                "Give template to the step that loads the base.",
                field="template",
            )
        if base and self.pickles:
            yield Finding("adapters are read from safetensors alone", "Take pickles: out.", field="pickles")
        if base and seen.folder and not seen.findings:
            yield from (
                replace(found, field="repo") for found in adapters.misfits(adapters.facts(seen.folder, base[0]))
            )
        yield from folders.unreadable(self.template)

    def run(self, *, model: Model | None = None, step: Step) -> None:
        from .hub_client import fetch, link

        commit = self.revision
        if not COMMIT.fullmatch(commit):
            seen = self._look(model is not None)
            for finding in seen.findings:
                if finding.level == "error":
                    raise StepError(finding.problem, finding.fix)
            commit = seen.commit
        if model is None:
            folder = fetch(self.repo, commit, step, self._layout(False))
            if self.pickles:
                pickled.take_over(folder, self.pickles, step.out, link, self.template)
            else:
                folders.take_over(folder, step.out, link, self.template)
            return
        folder = fetch(self.repo, commit, step, adapters)
        for finding in adapters.misfits(adapters.facts(folder, Model.facts(model.path))):
            raise StepError(finding.problem, finding.fix)
        adapters.take_over(folder, step.out, link, model)
        step.sits_on(model)

    def _layout(self, adapter: bool) -> Layout:
        return adapters if adapter else pickled.Pickled(self.pickles) if self.pickles else folders

    def _look(self, adapter: bool = False) -> Seen:
        """What the Hub says, asked once."""
        if adapter not in self._seen:
            self._seen[adapter] = self._ask(adapter)
        return self._seen[adapter]

    def _ask(self, adapter: bool) -> Seen:
        try:
            from .hub_client import look
        except ImportError as error:
            # A commit needs no look-up: the step then runs in an environment that has the client.
            problem = f"{self.revision} cannot be looked up on the Hub: {error}"
            fix = f"Install {self.needs[0]} here too, or write the full commit as revision."
            pinned = COMMIT.fullmatch(self.revision)
            return Seen(self.revision, findings=() if pinned else (Finding(problem, fix, field="revision"),))
        return look(self.repo, self.revision, self._layout(adapter))
