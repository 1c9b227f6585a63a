"""Export to GGUF, the format of llama.cpp."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from tuneforge import (
    Artifact,
    Field,
    Finding,
    Gguf,
    GgufAdapter,
    Known,
    Model,
    Quantize,
    Server,
    Speaker,
    Step,
    Terms,
    Voice,
    hookimpl,
)


class ToGguf(Quantize):
    """A model as one GGUF file for llama.cpp, Ollama, LM Studio and their like, written by llama.cpp's own converter.

    The file is loaded in llama.cpp afterwards and compared with the model: weights, vocabulary, chat template, the
    tokens of a few hundred texts, next-token probabilities. A file that says something else is not left behind.
    The converter comes out of llama-cpp-python's source archive, which is downloaded once and never built.
    """

    name = "gguf"
    output = Gguf
    needs = (
        "filelock>=4",
        "gguf>=0.19",
        "jinja2>=3.1",
        "numpy>=1.26",
        "safetensors>=0.4",
        "sentencepiece>=0.2",
        "torch>=2.6",
        "transformers>=5",
        "uv>=0.6.17",
        "xllamacpp>=2026.10",
    )
    engine = "tuneforge_gguf.engine"

    type: Literal["f16", "bf16", "q8_0"] = Field(
        "q8_0",
        description="How weights are stored: f16 or bf16, or in blocks of 8-bit numbers (q8_0).",
        also=("outtype",),
    )

    def check(self, facts: Known) -> Iterable[Finding]:
        from .converter import PACKAGE, VERSION, present_converter
        from .support import architecture_supported, tokenizer_support

        offline = "1" in (os.environ.get("UV_OFFLINE"), os.environ.get("HF_HUB_OFFLINE"))
        if offline and not os.environ.get("UV_FIND_LINKS") and present_converter(cache()) is None:
            yield Finding(
                "llama.cpp's converter is not here yet and the network is switched off",
                "Switch it on for the first export, "
                f"or name a folder with the source archive of {PACKAGE} {VERSION} in UV_FIND_LINKS.",
                level="warning",
            )
        for model in facts["model"]:
            architecture = next(iter(model.config.get("architectures", ())), None)
            if architecture and architecture_supported(architecture, present_converter(cache())) is False:
                yield Finding(
                    f"llama.cpp's converter does not know the architecture {architecture}", "Leave this step out."
                )
            file = model.tokenizer / "tokenizer.json" if model.tokenizer else None
            if file is not None and file.exists():
                sentencepiece = (file.parent / "tokenizer.model").exists()
                problem = tokenizer_support(json.loads(file.read_text(encoding="utf-8")), sentencepiece=sentencepiece)
                if problem:
                    yield Finding(problem, "Leave this step out, or start from a model with another tokenizer.")

    def run(self, model: Model, step: Step) -> None:
        from .engine import export, fetch_converter, verify

        converter = fetch_converter(cache(), step.log)
        file = export(model.path, step.out, self.type, converter, log=print)  # its many words go to the step's log
        step.metrics(bytes=file.stat().st_size, **verify(file, model.path, threads=step.threads, log=step.log))


class LlamaCpp(Speaker):
    """GGUF files, by llama.cpp itself: its own reading of the file's chat template, tokenizer and stop tokens.

    Without a bound, a conversation has the model's own context, but at most 8192 tokens: llama.cpp sets memory aside
    for all of it at the beginning.
    """

    kinds = (Gguf,)
    needs = ("xllamacpp>=2026.10",)
    engine = "tuneforge_gguf.talking"

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
    needs = ("xllamacpp>=2026.10",)
    tells = r" E |unauthorized|total time"  # llama.cpp tells of a request in seven lines

    def serve(self, artifact: Artifact, base: Artifact | None, terms: Terms) -> None:
        from .serving import serve

        serve(base or artifact, artifact if base else None, terms)


def cache() -> Path:
    """Where the converter is kept: it is the same for every project of a person."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuneforge"


@hookimpl
def register_quantize() -> list[type[Quantize]]:
    return [ToGguf]


@hookimpl
def register_server() -> list[type[Server]]:
    return [LlamaCppServer]


@hookimpl
def register_chat() -> list[type[Speaker]]:
    return [LlamaCpp]
