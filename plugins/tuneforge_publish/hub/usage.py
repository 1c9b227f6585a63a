"""How what lies in a repository of the Hub is run by the repository's name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from tuneforge import Adapter, Gguf, GgufAdapter, Model, QuantizedModel
from tuneforge.kit.vllm_adapters import max_lora_rank, unserved
from tuneforge.kit.vllm_checks import vllm_findings

from ..bundle import Bundle
from ..parts import Part
from ..usage import block, gguf_base, gguf_file, llama_cpp, question, transformers

_QUANTIZED = re.compile(r"[-.]((?:IQ|Q)\d\w*|BF16|F16|F32)\.gguf$", re.IGNORECASE)
"""The type at the end of a GGUF file's name, by which Ollama knows the file."""


def usage(bundle: Bundle, repo: str) -> Iterator[str]:
    """Markdown for each released part, with every engine that runs it."""
    yield f"A private repository, or a gated base model, takes `hf auth login` first.{_engines(bundle)}"
    for part in bundle.parts:
        if part.released:
            titled = f"{part.name}, with " if sum(one.released for one in bundle.parts) > 1 else "With "
            if isinstance(part.artifact, (Model, QuantizedModel, Adapter)):
                yield f"### {titled}transformers"
                yield from transformers(part, lambda name: _arguments(bundle, repo, name))
                yield f"### {titled}vLLM"
                yield from _vllm(bundle, part, repo)
            else:
                yield f"### {titled}llama.cpp"
                yield from _llama_cpp(bundle, part, repo)
                if isinstance(part.artifact, Gguf):
                    yield f"### {titled}Ollama"
                    yield from _ollama(bundle, part, repo)


def _engines(bundle: Bundle) -> str:
    if any(isinstance(part.artifact, (Gguf, GgufAdapter)) for part in bundle.parts if part.released):
        return ""
    return " llama.cpp and Ollama run GGUF files, which this repository has none of."


def _arguments(bundle: Bundle, repo: str, name: str) -> str:
    """The arguments of `from_pretrained` for a folder of the release, or for another repository."""
    if name not in {part.folder for part in bundle.parts}:
        return f'"{name}"'
    inside = "" if name == "." else f', subfolder="{name}"'
    return f'"{repo}"{inside}'


def _vllm(bundle: Bundle, part: Part, repo: str) -> Iterator[str]:
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
    local = base in folders - {"."} or part.folder != "."  # vLLM loads no subfolder of a repository
    here = bundle.served_name(part)
    given = (f"{here}/{base}" if base in folders else base) if local else repo if base == "." else base
    arguments = ["vllm", "serve", given.removesuffix("/.")]
    arguments += ["--revision", part.revision] if part.revision else []
    if adapter:
        rank = max_lora_rank([facts.config])
        where = repo if not local else f"{here}/{part.folder}".removesuffix("/.")
        arguments += ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", f"{part.name}={where}"]
    else:
        arguments += ["--served-model-name", here]
    get = [f"hf download {repo} --local-dir {here}"] if local else []
    yield block("sh", "pip install vllm", *get, shlex.join(arguments))
    yield question(8000, part.name if adapter else here)


def _llama_cpp(bundle: Bundle, part: Part, repo: str) -> Iterator[str]:
    base = gguf_base(part, bundle.parts, bundle.lineage)
    if base is None:
        options = f"-hf {repo} --hf-file {shlex.quote(gguf_file(part))}"
        yield from llama_cpp(part, model=options)
        return
    files = " ".join(shlex.quote(gguf_file(one)) for one in (base, part))
    yield block("sh", f"hf download {repo} {files} --local-dir .")
    yield from llama_cpp(part, base)


def _ollama(bundle: Bundle, part: Part, repo: str) -> Iterator[str]:
    path = gguf_file(part)
    quantized = _QUANTIZED.search(path)
    if part.folder == "." and quantized:
        yield "From huggingface.co; of a private repository, once Ollama's key is among your SSH keys there:"
        yield block("sh", f"ollama run hf.co/{repo}:{quantized[1].upper()}")
        return
    name = bundle.served_name(part)
    yield block(
        "sh",
        f"hf download {repo} {shlex.quote(path)} --local-dir .",
        f"echo 'FROM ./{path}' > Modelfile",
        f"ollama create {name}",
        f"ollama run {name}",
    )
