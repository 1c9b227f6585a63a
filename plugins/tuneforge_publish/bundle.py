"""A release on its way: what it is made of, whether it may go, and the folder that it becomes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuneforge import Artifact, Report, Step
from tuneforge.redaction import redacted_text

from .card import card
from .carded import Carded
from .lineage import Lineage
from .metadata import Metadata
from .parts import Part, copy_part, lay_out
from .release import Draft, written
from .to_folder import Served
from .verdicts import refuse_failed


@dataclass(frozen=True)
class Dressing:
    """What a release has beside its artifacts: `use`, Markdown on how to run it, and text `files` by their paths.

    A file of an artifact at such a path makes room.
    """

    use: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)


class Bundle:
    """Artifacts laid out for a release. Raises StepError when one of them failed a report."""

    def __init__(self, method: Carded, artifacts: Sequence[Artifact], reports: Sequence[Report], step: Step) -> None:
        self.method, self.reports, self.step = method, reports, step
        self.lineage = Lineage(step.lineage)
        refuse_failed(artifacts, reports, self.lineage, method.despite, step)
        # A server's options have name=path.
        letters = r"\w.-" if isinstance(method, Served) else r"\w.=-"
        self.parts = lay_out(artifacts, self.lineage, method.base_model, letters)

    @property
    def title(self) -> str:
        return self.method.title or self.lineage.recipe

    def served_name(self, part: Part) -> str:
        """What clients call a part: as the release, and as its step where there are several."""
        several = [self.title] if part.folder == "." else [self.title, part.name]
        return re.sub(r"[^a-z0-9._-]+", "-", "-".join(several).lower()).strip("-._") or "model"

    def fill(self, draft: Draft, dressing: Dressing) -> None:
        """Puts everything into a draft."""
        step = self.step
        for path, text in dressing.files.items():
            draft.write(path, text)
        for done, part in enumerate(self.parts, 1):
            copy_part(part, draft)
            step.progress(done, len(self.parts))
        metadata = Metadata.of(self.method, self.title)
        told = card(metadata, self.parts, self.lineage, self.reports, dressing.use)
        draft.write("README.md", redacted_text(told))
        draft.write("lineage.json", json.dumps(step.lineage, indent=2, ensure_ascii=False) + "\n")

    def release(self, to: Path, dressing: Dressing) -> None:
        """Writes the folder and its receipt."""
        step = self.step
        with written(to) as draft:
            self.fill(draft, dressing)
        receipt = {"files": dict(sorted(draft.files.items()))}
        (step.out / "receipt.json").write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")
        step.metrics(files=len(draft.files), bytes=sum(file["size"] for file in draft.files.values()))
        step.log(f"released to {to}")
