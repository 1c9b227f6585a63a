"""Export to GGUF, the format of llama.cpp, and answers of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from tuneforge import Artifact, Facts, Finding, Gguf, GgufAdapter, Quantize, Server, Speaker, Terms, Voice, hookimpl

from .adapters import ToGgufLora
from .togguf import ToGguf


class LlamaCpp(Speaker):
    """GGUF files, by llama.cpp itself: its own reading of the file's chat template, tokenizer and stop tokens.

    Without a bound, a conversation has the model's own context, but at most 8192 tokens: llama.cpp sets memory aside
    for all of it at the beginning.
    """

    kinds = (Gguf,)
    needs = ("jinja2>=3.1", "xllamacpp>=2026.10")
    engine = "tuneforge_gguf.talking"

    def check(self, facts: Facts) -> Iterator[Finding]:
        return _untold(facts)

    def open(self, artifact: Artifact, threads: int, context: int | None) -> Voice:
        from .talking import Loaded

        return Loaded(artifact.path, threads, context)


class LlamaCppServer(Server):
    """GGUF files, and GGUF adapters on the file of their base, by llama.cpp's own server.

    The chat template, tokenizer and stop tokens are the file's, as llama.cpp reads them. Without a bound, a
    conversation has at most 8192 tokens: llama.cpp sets memory aside for all of it at the beginning. One request is
    answered at a time.
    """

    name = "llama_cpp"
    kinds = (Gguf, GgufAdapter)
    bases: ClassVar[Mapping[type[Artifact], tuple[type[Artifact], ...]]] = {GgufAdapter: (Gguf,)}
    needs = ("jinja2>=3.1", "xllamacpp>=2026.10")
    tells = r" E |unauthorized|total time"  # llama.cpp tells of a request in seven lines

    def check(self, facts: Facts, terms: Terms) -> Iterator[Finding]:
        return _untold(facts)

    def serve(self, artifact: Artifact, base: Artifact | None, terms: Terms) -> None:
        from .serving import serve

        serve(base or artifact, artifact if base else None, terms)


def _untold(facts: Facts) -> Iterator[Finding]:
    if issubclass(facts.kind, Gguf) and not facts.template:
        # llama.cpp would take another model's.
        yield Finding(f"the {facts.kind.kind} has no chat template", "Export a model that has one.")


@hookimpl
def register_quantize() -> list[type[Quantize]]:
    return [ToGguf, ToGgufLora]


@hookimpl
def register_server() -> list[type[Server]]:
    return [LlamaCppServer]


@hookimpl
def register_chat() -> list[type[Speaker]]:
    return [LlamaCpp]
