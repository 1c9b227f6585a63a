"""A server of one transformers model and of adapters on it, as a release has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tuneforge import Adapter, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.folders import stored_stops
from tuneforge.kit.vllm_adapters import unserved

from .bundle import Bundle
from .memory import Needs, needs_of
from .parts import Part
from .templates import answer_end

LOCAL = "127.0.0.1"
"""Where a server listens that asks for no key."""

TOKEN = "HF_TOKEN"
"""The environment variable that lets who has it load a gated model from the Hub."""

_DTYPES = {"BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Server:
    """The model is `part`, or lies on the Hub as `repo` at `revision`; `adapters` are served on it."""

    part: Part | None
    repo: str | None
    revision: str | None
    adapters: Sequence[Part]

    @property
    def facts(self) -> Any:
        return self.part.facts if self.part else self.adapters[0].facts.model

    @property
    def quantized(self) -> bool:
        return "quantization_config" in self.facts.config

    @property
    def dtype(self) -> str:
        """The type to compute in: as the weights are stored, in 16 bits; empty if these leave it to the engine."""
        stored = {tensor.dtype for tensor in self.facts.tensors.values()}
        (only,) = stored if len(stored) == 1 else ("",)
        return "" if self.quantized else _DTYPES.get(only, "")

    def needs(self, context: int | None) -> Needs:
        return needs_of(self.facts.config, sum(tensor.bytes for tensor in self.facts.tensors.values()), context)


def server_of(bundle: Bundle, engine: str) -> Server:
    """The one server of a bundle. Raises StepError where one cannot serve what is there."""
    adapters = [part for part in bundle.parts if isinstance(part.artifact, Adapter)]
    models = [part for part in bundle.parts if not isinstance(part.artifact, Adapter)]
    bases = {str(adapter.base) for adapter in adapters} | {model.folder for model in models}
    templates = {part.facts.template for part in bundle.parts if part.released and part.facts.template}
    for count, what in ((len(bases), "model"), (len(templates), "chat template")):
        if count > 1:
            raise StepError(f"a server of {engine} has one {what}, and there are {count}", "Publish each by itself.")
    for part in adapters:
        why = unserved(part.facts.config)
        if why:
            raise StepError(f"{engine} cannot serve {part.name}: {why}", "Merge it, and publish the merged model.")
    model = models[0].artifact if models else adapters[0].artifact.base
    if model:
        for template in templates:
            _ends(model.path, template)
    if models:
        return Server(models[0], None, None, adapters)
    return Server(None, adapters[0].base, adapters[0].revision, adapters)


def _ends(model: Path, template: str) -> None:
    """Raises StepError when an answer would never end: no stop token is what the template ends an answer with."""
    told = read_json(model / "tokenizer_config.json")
    tokens = {token["content"]: token["id"] for token in read_json(model / "tokenizer.json").get("added_tokens", ())}
    bos, eos = (content(told.get(name)) for name in ("bos_token", "eos_token"))
    end = answer_end(template, list(tokens), bos=bos, eos=eos)
    if end and tokens[end] not in {*stored_stops(model), tokens.get(eos)}:
        raise StepError(
            f"the chat template ends an answer with {end!r}, and that is none of the model's stop tokens",
            f"Add {tokens[end]} to eos_token_id in generation_config.json of the model that it was made from.",
        )


def content(token: Any) -> str:
    """A token of a tokenizer_config.json as text; nothing if there is none."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def opened(what: str) -> str:
    """One sentence for a person on how to let others in, by taking something out."""
    return (
        "It listens on this machine alone and asks for no key. To let others in, give it one with `--api-key`, and "
        f"take out {what}."
    )


def compose(
    server: Server, service: str, image: str, command: Sequence[str], port: tuple[int, int], **more: Any
) -> str:
    """A compose file with one service that has the release at /release and every GPU of NVIDIA's.

    `port` is the one on the machine and the one in the container.
    """
    gpu = {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    content = {
        "image": image,
        "command": list(command),
        "volumes": [".:/release:ro"],
        "ports": [f"{LOCAL}:{port[0]}:{port[1]}"],
        **({"environment": [TOKEN]} if server.repo else {}),
        **more,
        "deploy": {"resources": {"reservations": {"devices": [gpu]}}},
    }
    return yaml.safe_dump({"services": {service: content}}, sort_keys=False)


def inside(folder: str) -> str:
    """A folder of the release as the container has it."""
    return "/release" if folder == "." else f"/release/{folder}"


def as_json(content: Any) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def lines(command: Sequence[str]) -> Iterator[str]:
    """A long command on several lines: a new one for each option."""
    row = ""
    for word in command:
        if word.startswith("--") and row:
            yield f"{row} \\"
            row = f"  {word}"
        else:
            row = f"{row} {word}".lstrip() if not row.startswith("  ") else f"{row} {word}"
    yield row
