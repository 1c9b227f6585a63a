"""How what lies in a repository of the Hub is run by the repository's name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tuneforge import Adapter, Gguf, GgufAdapter, Model, QuantizedModel
from tuneforge.kit.vllm_adapters import max_lora_rank, unserved
from tuneforge.kit.vllm_checks import vllm_findings

from ..bundle import Bundle
from ..parts import Part
from ..usage import block, gguf_base, gguf_file, llama_cpp, question, transformers

_QUANTIZED = re.compile(r"[-.]((?:IQ|Q)\d\w*|BF16|F16|F32)\.gguf$", re.IGNORECASE)
"""The type at the end of a GGUF file's name, by which Ollama knows the file."""


@dataclass(frozen=True)
class Place:
    """Where a release lies on the Hub; `branch` is None for main, which is what is meant where none is named."""

    repo: str
    branch: str | None = None

    def download(self, *files: str, to: str) -> str:
        """The command that brings it here, or some of its files."""
        revision = ["--revision", self.branch] if self.branch else []
        return shlex.join(["hf", "download", self.repo, *files, *revision, "--local-dir", to])

    def arguments(self, folder: str) -> str:
        """The arguments of `from_pretrained` for a folder of the release."""
        inside = "" if folder == "." else f', subfolder="{folder}"'
        return f'"{self.repo}"{inside}' + (f', revision="{self.branch}"' if self.branch else "")


def usage(bundle: Bundle, at: Place) -> Iterator[str]:
    """Markdown for each released part, with every engine that runs it."""
    yield f"A private repository, or a gated base model, takes `hf auth login` first.{_engines(bundle)}"
    for part in bundle.parts:
        if part.released:
            titled = f"{part.name}, with " if sum(one.released for one in bundle.parts) > 1 else "With "
            if isinstance(part.artifact, (Model, QuantizedModel, Adapter)):
                yield f"### {titled}transformers"
                yield from transformers(part, lambda name: _arguments(bundle, at, name))
                yield f"### {titled}vLLM"
                yield from _vllm(bundle, part, at)
            else:
                yield f"### {titled}llama.cpp"
                yield from _llama_cpp(bundle, part, at)
                if isinstance(part.artifact, Gguf):
                    yield f"### {titled}Ollama"
                    yield from _ollama(bundle, part, at)


def _engines(bundle: Bundle) -> str:
    if any(isinstance(part.artifact, (Gguf, GgufAdapter)) for part in bundle.parts if part.released):
        return ""
    return " llama.cpp and Ollama run GGUF files, which this repository has none of."


def _arguments(bundle: Bundle, at: Place, name: str) -> str:
    """The arguments of `from_pretrained` for a folder of the release, or for another repository."""
    return at.arguments(name) if name in {part.folder for part in bundle.parts} else f'"{name}"'


def _vllm(bundle: Bundle, part: Part, at: Place) -> Iterator[str]:
    facts = part.facts
    adapter = isinstance(part.artifact, Adapter)
    problems = [finding.problem for finding in vllm_findings(facts.model) if finding.level == "error"]
    if adapter:
        problems += [why for why in [unserved(facts.config)] if why]
    if problems:
        yield f"It does not serve this: {'; '.join(problems)}."
        return
    folders = {one.folder for one in bundle.parts}
    base = part.base or part.folder
    # vLLM loads no subfolder of a repository, and adapters of its main branch alone.
    local = base in folders - {"."} or part.folder != "." or (adapter and at.branch is not None)
    here = bundle.served_name(part)
    given = (f"{here}/{base}" if base in folders else base) if local else at.repo if base == "." else base
    arguments = ["vllm", "serve", given.removesuffix("/.")]
    revision = part.revision or (None if adapter or local else at.branch)
    arguments += ["--revision", revision] if revision else []
    if adapter:
        rank = max_lora_rank([facts.config])
        where = at.repo if not local else f"{here}/{part.folder}".removesuffix("/.")
        arguments += ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", f"{part.name}={where}"]
    else:
        arguments += ["--served-model-name", here]
    get = [at.download(to=here)] if local else []
    yield block("sh", "pip install vllm", *get, shlex.join(arguments))
    yield question(8000, part.name if adapter else here)


def _llama_cpp(bundle: Bundle, part: Part, at: Place) -> Iterator[str]:
    base = gguf_base(part, bundle.parts, bundle.lineage)
    if base is None and at.branch is None:  # the one that llama.cpp downloads from
        options = f"-hf {at.repo} --hf-file {shlex.quote(gguf_file(part))}"
        yield from llama_cpp(part, model=options)
        return
    files = [file for one in (base, part) if one for file in _gguf_files(one)]
    yield block("sh", at.download(*files, to="."))
    yield from llama_cpp(part, base)


def _gguf_files(part: Part) -> list[str]:
    """A GGUF part's files, of which a large model has several, by their paths in the release."""
    return sorted(part.path(file.name) for file in part.artifact.path.glob("*.gguf"))


def _ollama(bundle: Bundle, part: Part, at: Place) -> Iterator[str]:
    path = gguf_file(part)
    quantized = _QUANTIZED.search(path)
    if part.folder == "." and quantized and "/" in at.repo and at.branch is None:
        yield "From huggingface.co; of a private repository, once Ollama's key is among your SSH keys there:"
        yield block("sh", f"ollama run hf.co/{at.repo}:{quantized[1].upper()}")
        return
    name = bundle.served_name(part)
    yield block(
        "sh",
        at.download(*_gguf_files(part), to="."),
        f"echo 'FROM ./{path}' > Modelfile",
        f"ollama create {name}",
        f"ollama run {name}",
    )
