"""How the parts of a release are run: commands that work as they stand, from within the released folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tuneforge import Gguf
from tuneforge.kit.adapters import BOTTLENECK, peft_type

from .parts import Part


def usage(parts: Sequence[Part]) -> Iterator[str]:
    """Markdown for each released part, models and adapters with transformers, GGUF files with llama.cpp."""
    for part in parts:
        if part.released:
            commands = _llama_cpp(part) if isinstance(part.artifact, Gguf) else _transformers(part)
            title = "llama.cpp" if isinstance(part.artifact, Gguf) else "transformers"
            yield f"### {part.name}, with {title}"
            yield from commands


def _transformers(part: Part) -> Iterator[str]:
    revision = f', revision="{part.revision}"' if part.revision else ""
    own_tokenizer = (part.artifact.path / "tokenizer.json").exists()
    lines = ["from peft import PeftModel"] if part.base else []
    # PEFT has no such adapters of its own.
    bottleneck = peft_type(part.facts.config) == BOTTLENECK
    lines += ["from tuneforge.kit import bottleneck"] if bottleneck else []
    lines += [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        *(["bottleneck.register()"] if bottleneck else []),
        f'tokenizer = AutoTokenizer.from_pretrained("{part.folder if own_tokenizer else part.base}")',
        f'model = AutoModelForCausalLM.from_pretrained("{part.base or part.folder}"{revision}, dtype="auto")',
    ]
    if part.base:
        lines.append(f'model = PeftModel.from_pretrained(model, "{part.folder}")')
    if part.facts.template:
        lines += [
            'messages = [{"role": "user", "content": "Hello"}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
            ")",
        ]
    else:
        lines.append('inputs = tokenizer("Hello", return_tensors="pt")')
    lines += [
        "output = model.generate(**inputs, max_new_tokens=200)",
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))',
    ]
    more = f"{' peft' if part.base else ''}{' tuneforge' if bottleneck else ''}"
    yield _block("sh", f"pip install torch transformers{more}")
    yield _block("python", *lines)


def _llama_cpp(part: Part) -> Iterator[str]:
    # Of a model in several files, llama.cpp is given the first.
    file = part.path(min(path.name for path in part.artifact.path.glob("*.gguf")))
    yield "A chat in the terminal:"
    yield _block("sh", f"llama-cli -m {file} --jinja")
    yield "An OpenAI-compatible server, and a question to it from another terminal:"
    yield _block("sh", f"llama-server -m {file} --jinja --port 8080")
    yield _block(
        "sh",
        "curl http://localhost:8080/v1/chat/completions -H 'Content-Type: application/json' \\",
        """  -d '{"messages": [{"role": "user", "content": "Hello"}]}'""",
    )


def _block(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```"])
