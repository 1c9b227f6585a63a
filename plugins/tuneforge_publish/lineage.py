"""What a step is told of everything before it, made easy to ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuneforge import ChatData, PreferenceData, PromptData, Report, TextData

DATA = (ChatData.kind, PreferenceData.kind, PromptData.kind, TextData.kind)
_SAME_MODEL = ("merge", "quantize")


class Lineage:
    """The steps of a lineage. What came from the registry is a step too, with a name and a digest, but no method."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.recipe: str = told.get("recipe", "")
        self.text: str = told.get("text", "")
        self.settings: list[str] = told.get("settings", [])
        self.steps: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in told.get("steps", [])}

    def entry(self, digest: str) -> dict[str, Any] | None:
        """The first step that gave this artifact."""
        return next((entry for entry in self.steps.values() if entry["digest"] == digest), None)

    def name(self, digest: str) -> str:
        """What to call an artifact: its step, else its digest."""
        entry = self.entry(digest)
        return entry["name"].removeprefix("registry:") if entry else digest[:12]

    def names(self, digest: str) -> set[str]:
        """All steps that gave this artifact."""
        return {entry["name"] for entry in self.steps.values() if entry["digest"] == digest}

    def from_hub(self) -> dict[str, tuple[str, str]]:
        """The models that were loaded from the Hub: by digest, the repository and the commit."""
        return {
            entry["digest"]: (entry["config"]["repo"], entry["config"]["revision"])
            for entry in self.steps.values()
            if entry.get("stage") == "load_model" and {"repo", "revision"} <= entry["config"].keys()
        }

    def data_from_hub(self, steps: Sequence[Mapping[str, Any]]) -> list[str]:
        """The data sets of the Hub that such of these steps read as gave rows."""
        named = [entry["config"].get("repo") for entry in steps if entry["kind"] in DATA and "config" in entry]
        return [repo for repo in named if repo]

    def models(self, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The models, adapters and such that a step was made of."""
        return [source for _, source in self.sources(entry) if source["kind"] not in (*DATA, Report.kind)]

    def sources(self, entry: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """What a step was made of: the input's name, and the step that it was wired to."""
        wires = [(parameter, wire) for parameter, wired in entry.get("inputs", {}).items() for wire in wired]
        return [(parameter, self.steps[wire]) for parameter, wire in wires]

    def forms(self, digest: str) -> Iterator[str]:
        """The artifact and those that it is another form of: what a model was merged or quantized from, if one."""
        yield digest
        entry = self.entry(digest)
        if entry and entry.get("stage") in _SAME_MODEL:
            models = self.models(entry)
            if len(models) == 1:
                yield from self.forms(models[0]["digest"])
