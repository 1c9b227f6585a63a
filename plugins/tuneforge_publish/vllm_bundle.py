"""How vLLM serves a release: its command, its compose file, and what to read first."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from tuneforge import StepError
from tuneforge.kit.vllm_adapters import max_lora_rank
from tuneforge.kit.vllm_checks import vllm_findings

from .bundle import Bundle
from .server import LOCAL, Server, compose, inside, lines, opened
from .usage import block, question

IMAGE = "vllm/vllm-openai:v0.33.0"
"""Of the version that the requirements are those of; its entry point is `vllm serve`."""

PORT = 8000


def arguments(bundle: Bundle, server: Server, context: int | None, root: str = "") -> list[str]:
    """Of `vllm serve`. Folders are relative to the release, or to where the container has it, `root`."""

    def folder(name: str) -> str:
        return inside(name) if root else name

    given = [folder(server.part.folder) if server.part else str(server.repo)]
    given += ["--revision", server.revision] if server.revision else []
    given += ["--served-model-name", _model_name(bundle, server)]
    given += ["--max-model-len", str(context)] if context else []
    given += ["--dtype", server.dtype] if server.dtype else []
    if server.adapters:
        rank = max_lora_rank(part.facts.config for part in server.adapters)
        given += ["--enable-lora", "--max-lora-rank", str(rank)]
        given += ["--max-loras", str(len(server.adapters))]
        given += ["--lora-modules", *(f"{part.name}={folder(part.folder)}" for part in server.adapters)]
        own = next((part for part in server.adapters if part.facts.template != server.facts.template), None)
        given += ["--chat-template", folder(own.path("chat_template.jinja"))] if own else []
    given += [] if root else ["--host", LOCAL]
    return [*given, "--port", str(PORT)]


def compose_file(bundle: Bundle, server: Server, context: int | None) -> str:
    command = arguments(bundle, server, context, "/release")
    return compose(server, "vllm", IMAGE, command, (PORT, PORT), ipc="host")


def usage(bundle: Bundle, server: Server, context: int | None) -> Iterator[str]:
    """Markdown on how to serve it."""
    for finding in vllm_findings(server.facts):
        if finding.level == "error":
            raise StepError(finding.problem, finding.fix)
    yield "Run these from within this folder, on a machine with a GPU that [vLLM](https://docs.vllm.ai) supports."
    yield server.needs(context).told(server.dtype)
    yield "With vLLM installed (`pip install vllm`):"
    yield block("sh", *lines([shlex.quote(word) for word in ["vllm", "serve", *arguments(bundle, server, context)]]))
    yield "Or in a container:"
    yield block("sh", "docker compose up")
    yield opened(f"`--host {LOCAL}`, or `{LOCAL}:` of `ports` in compose.yaml")
    yield from _asked(bundle, server)


def _asked(bundle: Bundle, server: Server) -> Iterator[str]:
    yield "A question to the OpenAI-compatible server, from another terminal:"
    names: Sequence[str] = [part.name for part in server.adapters if part.released]
    for name in names or [_model_name(bundle, server)]:
        yield question(PORT, name)
    if server.adapters:
        yield f"The model without an adapter is called `{_model_name(bundle, server)}`."


def _model_name(bundle: Bundle, server: Server) -> str:
    name = bundle.served_name(server.part) if server.part else "base"
    return f"{name}-model" if name in [part.name for part in server.adapters] else name
