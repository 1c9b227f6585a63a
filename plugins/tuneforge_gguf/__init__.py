"""Export to GGUF, the format of llama.cpp, and answers of it."""

from __future__ import annotations

from tuneforge import Artifact, Gguf, Quantize, Speaker, Voice, hookimpl

from .adapters import ToGgufLora
from .togguf import ToGguf


class LlamaCpp(Speaker):
    """GGUF files, by llama.cpp itself: its own reading of the file's chat template, tokenizer and stop tokens.

    Without a bound, a conversation has the model's own context, but at most 8192 tokens: llama.cpp sets memory aside
    for all of it at the beginning.
    """

    kinds = (Gguf,)
    needs = ("xllamacpp>=2026.7",)
    engine = "tuneforge_gguf.talking"

    def open(self, artifact: Artifact, threads: int, context: int | None) -> Voice:
        from .talking import Loaded

        return Loaded(artifact.path, threads, context)


@hookimpl
def register_quantize() -> list[type[Quantize]]:
    return [ToGguf, ToGgufLora]


@hookimpl
def register_chat() -> list[type[Speaker]]:
    return [LlamaCpp]
