"""How text-generation-inference serves a release: files as it reads them, its command, its compose file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
import minijinja

from tuneforge import StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.templates import plain, render

from .parts import Part
from .server import LOCAL, TOKEN, Server, as_json, compose, content, inside, lines, opened
from .templates import CONVERSATIONS, told_day
from .tgi_support import passed_over, unreadable
from .usage import block, question

IMAGE = "ghcr.io/huggingface/text-generation-inference:3.3.7"
NAME = "text-generation-inference"
_PORT = (8080, 80)  # on the machine, and where the image listens

# What PEFT 0.15 knows of a plain LoRA: newer versions write more.
_LORA = (
    *("base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "lora_alpha", "lora_dropout"),
    *("peft_type", "r", "target_modules", "task_type", "use_rslora"),
)


def files(server: Server, context: int | None) -> dict[str, str]:
    """The compose file, and the files of the artifacts that TGI reads otherwise than they are."""
    written = {"compose.yaml": compose(server, "tgi", IMAGE, _arguments(server, context), _PORT, shm_size="1g")}
    for part in (server.part,) if server.part else ():
        if problem := unreadable(part.facts.config):
            raise StepError(f"{NAME} {problem}", "Publish it with `publish: vllm`.")
        folder = part.artifact.path
        written[part.path("config.json")] = as_json(model_config(read_json(folder / "config.json")))
        written |= _tokenizer(part, _template(server))
    for part in server.adapters:
        config = read_json(part.artifact.path / "adapter_config.json")
        if problem := passed_over(config):
            raise StepError(f"{NAME} {problem}", "Merge the adapter, and publish the merged model.")
        kept = {name: config[name] for name in _LORA if name in config}
        written[part.path("adapter_config.json")] = as_json(kept | {"base_model_name_or_path": part.base})
        if (part.artifact.path / "tokenizer_config.json").exists():
            written |= _tokenizer(part, part.facts.template)
    return written


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json as transformers 4.51 reads it: from newer ones it would take the usual rotary base, silently."""
    rope = dict(config.get("rope_parameters") or {})
    older = {name: rope.pop(name) for name in ("rope_theta", "partial_rotary_factor") if name in rope}
    if rope.get("rope_type", "default") != "default":
        older["rope_scaling"] = rope
    if "dtype" in config:
        older["torch_dtype"] = config["dtype"]
    return {**config, **older}


def tokenizer_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer_config.json as transformers 4.51 reads it."""
    older = dict(config)
    if config.get("tokenizer_class") == "TokenizersBackend":
        older["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        older["additional_special_tokens"] = older.pop("extra_special_tokens")
    return older


def _tokenizer(part: Part, template: str | None) -> dict[str, str]:
    config = tokenizer_config(read_json(part.artifact.path / "tokenizer_config.json"))
    if template:
        config["chat_template"] = verified(template, config)
    return {part.path("tokenizer_config.json"): as_json(config)}


def verified(template: str, config: Mapping[str, Any]) -> str:
    """A template for TGI's engine, minijinja, which writes conversations as transformers does by the given one.

    Raises StepError where it does not.
    """
    own = plain(template)
    tokens = {name: content(config.get(f"{name}_token")) for name in ("bos", "eos")}
    given = {"bos_token": tokens["bos"], "eos_token": tokens["eos"], "add_generation_prompt": True, "tools": None}
    engine = minijinja.Environment(pycompat=True, globals={"raise_exception": _refuse, "strftime_now": told_day})
    for messages in CONVERSATIONS:
        try:
            want = render(template, messages, bos=tokens["bos"], eos=tokens["eos"], strftime_now=told_day)
        except jinja2.TemplateError:
            continue
        try:
            got = engine.render_str(own, messages=messages, **given)
        except minijinja.TemplateError as error:
            raise StepError(f"{NAME} cannot read the chat template: {error}", _SIMPLER) from error
        if got != want:
            raise StepError(f"{NAME} makes {got!r} of a conversation, and transformers {want!r}", _SIMPLER)
    return own


_SIMPLER = "Make the template simpler, without what only Python has, or publish with `publish: vllm`."


def usage(server: Server, context: int | None) -> Iterator[str]:
    """Markdown on how to serve it."""
    yield (
        "Run these from within this folder, on a machine with a GPU of NVIDIA's and the NVIDIA Container Toolkit. "
        "[text-generation-inference](https://github.com/huggingface/text-generation-inference) is in maintenance mode "
        "since December 2025, and its authors recommend vLLM or SGLang for what is new; 3.3.7 is its last version."
    )
    yield server.needs(context).told(server.dtype or "float16")
    command = ["docker", "run", "--gpus", "all", "--shm-size", "1g", "-p", f"{LOCAL}:{_PORT[0]}:{_PORT[1]}"]
    command += ["-e", TOKEN] if server.repo else []
    shown = [shlex.quote(word) for word in [*command, "--volume"]] + ['"$PWD":/release:ro', IMAGE]
    yield block("sh", *lines([*shown, *(shlex.quote(word) for word in _arguments(server, context))]))
    yield "Or the same with compose:"
    yield block("sh", "docker compose up")
    yield opened(f"`{LOCAL}:` of `-p`, or of `ports` in compose.yaml")
    yield "A question to the OpenAI-compatible server, from another terminal:"
    for name in [part.name for part in server.adapters] or ["tgi"]:
        yield question(_PORT[0], name)


def _arguments(server: Server, context: int | None) -> list[str]:
    given = ["--model-id", inside(server.part.folder) if server.part else str(server.repo)]
    given += ["--revision", server.revision] if server.revision else []
    # Without, it takes as many as the GPU has room for.
    given += ["--max-total-tokens", str(context), "--max-input-tokens", str(context - 1)] if context else []
    given += ["--dtype", server.dtype] if server.dtype else []
    own = next((part for part in server.adapters if (part.artifact.path / "tokenizer_config.json").exists()), None)
    if own and not server.part:
        given += ["--tokenizer-config-path", f"/release/{own.path('tokenizer_config.json')}"]
    if server.adapters:
        given += ["--lora-adapters", ",".join(f"{part.name}={inside(part.folder)}" for part in server.adapters)]
    return given


def _template(server: Server) -> str | None:
    """The one that conversations are written by: an adapter's own, where it has one."""
    return next((part.facts.template for part in server.adapters if part.facts.template), server.facts.template)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
