"""Where each artifact of a release lies, and which files of it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneforge import Adapter, Artifact, Facts, GgufAdapter
from tuneforge.artifacts import read_json

from .lineage import Lineage
from .release import OWN, Draft


@dataclass(frozen=True)
class Part:
    """An artifact in its `folder` of the release, `.` being the top.

    `base` is the folder or Hub name of what an adapter sits on, `revision` its commit there; `released` is false for
    what is there as a base only.
    """

    name: str
    folder: str
    artifact: Artifact
    base: str | None
    revision: str | None
    released: bool

    @property
    def facts(self) -> Facts:
        base = self.artifact.base
        return self.artifact.facts(self.artifact.path, base.facts(base.path) if base else None)

    def path(self, file: str) -> str:
        return file if self.folder == "." else f"{self.folder}/{file}"


def lay_out(
    artifacts: Sequence[Artifact], lineage: Lineage, base_model: str | None, letters: str = r"\w.=-"
) -> list[Part]:
    """One artifact at the top, several in folders named after their steps; then the bases of adapters.

    A base that is on the Hub, by the lineage or as `base_model`, is named and not released; nor is that of an adapter
    in GGUF, which llama.cpp wants in GGUF too. Names are of `letters`.
    """
    wanted = {artifact.digest: artifact for artifact in artifacts}
    on_base = [artifact for artifact in artifacts if not isinstance(artifact, GgufAdapter)]
    bases = {artifact.base.digest: artifact.base for artifact in on_base if artifact.base}
    hub = dict.fromkeys(bases, (base_model, None)) if base_model else lineage.from_hub()
    everything = wanted | {digest: base for digest, base in bases.items() if digest not in hub}
    names: dict[str, str] = {}
    for digest in everything:
        name = re.sub(rf"[^{letters}]+", "-", lineage.name(digest))
        names[digest] = f"{name}-{digest[:12]}" if name in names.values() else name
    folders = names | ({next(iter(wanted)): "."} if len(wanted) == 1 else {})
    parts = []
    for digest, artifact in everything.items():
        base, revision = None, None
        if artifact.base and not isinstance(artifact, GgufAdapter):
            base, revision = hub.get(artifact.base.digest) or (folders[artifact.base.digest], None)
        parts.append(Part(names[digest], folders[digest], artifact, base, revision, digest in wanted))
    return parts


def copy_part(part: Part, draft: Draft) -> None:
    """Copies an artifact's files, but those that the draft has its own of.

    An adapter's configuration then names its base as it is found from the release.
    """
    for file in sorted(part.artifact.path.rglob("*")):
        name = file.relative_to(part.artifact.path).as_posix()
        path = part.path(name)
        if file.is_dir() or path in OWN or path in draft.files:
            continue
        if part.base and isinstance(part.artifact, Adapter) and name == "adapter_config.json":
            names = {"base_model_name_or_path": part.base, "revision": part.revision}
            config: dict[str, Any] = read_json(file) | names
            draft.write(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
        else:
            draft.copy(file, path)
