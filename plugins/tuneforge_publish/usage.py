"""How the parts of a release are run: commands that work as they stand, from within the released folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tuneforge import Gguf, GgufAdapter, StepError
from tuneforge.kit.adapters import BOTTLENECK, peft_type
from tuneforge.kit.llamacpp import template_of, template_options
from tuneforge.kit.quantized import needs_of, packed_zero_points

from .lineage import Lineage
from .parts import Part

Where = Callable[[str], str]
"""How a folder of a release, or a name on the Hub, is given to `from_pretrained`: its arguments, in Python."""


def usage(parts: Sequence[Part], lineage: Lineage) -> Iterator[str]:
    """Markdown for each released part, models and adapters with transformers, GGUF files with llama.cpp."""
    for part in parts:
        if part.released:
            gguf = isinstance(part.artifact, (Gguf, GgufAdapter))
            yield f"### {part.name}, with {'llama.cpp' if gguf else 'transformers'}"
            yield from llama_cpp(part, gguf_base(part, parts, lineage)) if gguf else transformers(part)


def gguf_file(part: Part) -> str:
    """A GGUF part's file by its path in the release. Of a model in several files, llama.cpp is given the first."""
    return part.path(_first(part).name)


def _first(part: Part) -> Path:
    return min(part.artifact.path.glob("*.gguf"))


def gguf_base(part: Part, parts: Sequence[Part], lineage: Lineage) -> Part | None:
    """The released GGUF model that an adapter in GGUF sits on; None for another part.

    Raises StepError where there is none. What came from the registry does not tell what it was made of: of such, the
    only GGUF model there is taken.
    """
    if not isinstance(part.artifact, GgufAdapter):
        return None
    models = [each for each in parts if isinstance(each.artifact, Gguf)]
    for model in models:
        if part.artifact.base and part.artifact.base.digest in lineage.forms(model.artifact.digest):
            return model
    untold = [model for model in models if len(list(lineage.forms(model.artifact.digest))) == 1]
    if len(models) == 1 and untold:
        return models[0]
    raise StepError(
        f"{part.name} is an adapter in GGUF, and none of the released GGUF models is the one it was trained on",
        "Quantize its base model with `gguf` as well, and name that step in artifacts:.",
    )


def llama_cpp(
    part: Part, base: Part | None = None, context: int | None = None, model: str | None = None
) -> Iterator[str]:
    """A chat and a server with llama.cpp, of a GGUF model or of an adapter on its `base`.

    `model` are the options that name it, where it does not lie here.
    """
    if model is None:
        model = f"-m {gguf_file(base)} --lora {gguf_file(part)}" if base else f"-m {gguf_file(part)}"
    given = {name: json.loads(value) for name, value in template_options(template_of(_first(base or part))).items()}
    # llama.cpp passes more to some templates than the model was trained with.
    template = f" --chat-template-kwargs '{json.dumps(given)}'" if given else ""
    length = f" -c {context}" if context else ""
    yield "A chat in the terminal:"
    yield block("sh", f"llama-cli {model} --jinja{template}{length}")
    yield "An OpenAI-compatible server, and a question to it from another terminal:"
    yield block("sh", f"llama-server {model} --jinja{template}{length} --port 8080")
    yield question(8080)


def question(port: int, model: str | None = None) -> str:
    """A question to an OpenAI-compatible server on this machine."""
    named = f'"model": "{model}", ' if model else ""
    return block(
        "sh",
        f"curl http://localhost:{port}/v1/chat/completions -H 'Content-Type: application/json' \\",
        f"""  -d '{{{named}"messages": [{{"role": "user", "content": "Hello"}}]}}'""",
    )


def block(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def transformers(part: Part, where: Where = '"{}"'.format) -> Iterator[str]:
    """An answer of a model or adapter with transformers, as a script; by default from within the released folder."""
    revision = f', revision="{part.revision}"' if part.revision else ""
    own_tokenizer = (part.artifact.path / "tokenizer.json").exists()
    lines = ["from peft import PeftModel"] if part.base else []
    # PEFT has no such adapters of its own.
    bottleneck = peft_type(part.facts.config) == BOTTLENECK
    lines += ["from tuneforge.kit import bottleneck"] if bottleneck else []
    unpacked = packed_zero_points(part.facts.model.config)
    how = ", quantization_config=CompressedTensorsConfig(dequantize=True)" if unpacked else ""
    names = ["AutoModelForCausalLM", "AutoTokenizer", *(["CompressedTensorsConfig"] if unpacked else [])]
    lines += [
        f"from transformers import {', '.join(names)}",
        "",
        *(["bottleneck.register()"] if bottleneck else []),
        f"tokenizer = AutoTokenizer.from_pretrained({where(str(part.folder if own_tokenizer else part.base))})",
        f'model = AutoModelForCausalLM.from_pretrained({where(part.base or part.folder)}{revision}, dtype="auto"{how})',
    ]
    if part.base:
        lines.append(f"model = PeftModel.from_pretrained(model, {where(part.folder)})")
    if part.facts.template:
        lines += [
            'messages = [{"role": "user", "content": "Hello"}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
            ").to(model.device)",
        ]
    else:
        lines.append('inputs = tokenizer("Hello", return_tensors="pt").to(model.device)')
    lines += [
        "output = model.generate(**inputs, max_new_tokens=200)",
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))',
    ]
    more = ["peft"] if part.base else []
    more += ["tuneforge"] if bottleneck else []
    more += [f"'{need}'" for need in needs_of(part.facts.model.config)]
    yield block("sh", " ".join(["pip install torch transformers", *more]))
    yield block("python", *lines)
