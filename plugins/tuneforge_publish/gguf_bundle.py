"""The GGUF models of a release, each with the adapter that is served on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .bundle import Bundle
from .gguf_file import MOST, GgufFile
from .memory import Needs
from .parts import Part
from .usage import gguf_base, gguf_file, llama_cpp


@dataclass(frozen=True)
class ServedGguf:
    """One way to serve: a model, `part`, or an adapter, `part`, on a model, `base`. `file` is the model's."""

    part: Part
    base: Part | None
    file: GgufFile

    def needs(self, context: int | None) -> Needs:
        return self.file.needs(context)

    def usage(self, context: int | None) -> Iterator[str]:
        """Markdown on how llama.cpp runs it."""
        yield f"### {self.part.name}"
        yield self.told(context, "-c")
        yield from llama_cpp(self.part, self.base, self.needs(context).context)

    def told(self, context: int | None, option: str) -> str:
        """What it takes of memory, and which option takes more where that bounds its conversations."""
        told, made_for = self.needs(context).told(), self.file.made_for
        if context or not made_for or made_for <= MOST:
            return told
        return f"{told} The model was made for {made_for}: raise `{option}` where there is memory for it."


def served(bundle: Bundle, context: int | None) -> list[ServedGguf]:
    """Every part that can be served. Raises StepError for an adapter whose model is not there."""
    found = []
    for part in bundle.parts:
        base = gguf_base(part, bundle.parts, bundle.lineage)
        model = base or part
        path = model.artifact.path / gguf_file(model).rpartition("/")[2]
        found.append(ServedGguf(part, base, GgufFile(path)))
        made_for = found[-1].file.made_for
        if context and made_for and context > made_for:
            bundle.step.warn(
                f"{model.name} was made for {made_for} tokens, and is to be served with {context}",
                f"Set context to {made_for} or less.",
            )
    return found
