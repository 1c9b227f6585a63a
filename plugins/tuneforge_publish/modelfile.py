"""A Modelfile of Ollama, in the grammar of its own parser, and what to do with it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tuneforge import StepError

from .bundle import Bundle
from .gguf_bundle import ServedGguf
from .ollama import REMEDY
from .templates import turns_of
from .usage import block, gguf_file, question


def modelfile(model: ServedGguf, context: int | None, system: str) -> str:
    """The Modelfile of a model or adapter, to lie beside it. Raises StepError for what Ollama cannot be told."""
    file, base = model.file, model.base or model.part
    if len(list(base.artifact.path.glob("*.gguf"))) > 1:
        raise StepError(f"{base.name} is in several files, and Ollama wants one", "Export it again as one file.")
    turns = turns_of(file.template, bos=file.token("bos"), eos=file.token("eos"), adds_bos=file.adds_bos)
    if isinstance(turns, str):
        raise StepError(f"{base.name}: {turns}, so Ollama has no like of it", REMEDY)
    lines = [f"FROM {_beside(model, gguf_file(base))}"]
    if model.base:
        lines.append(f"ADAPTER {_beside(model, gguf_file(model.part))}")
    lines.append(f"TEMPLATE {quoted(turns.in_go())}")
    lines += [f"SYSTEM {quoted(system)}"] if system else []
    lines += [f"PARAMETER stop {quoted(token)}" for token in file.stops]
    length = model.needs(context).context
    lines += [f"PARAMETER num_ctx {length}"] if length else []
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Text as an argument of a Modelfile. Raises StepError for what its parser would drop or end at."""
    problem = unsayable(text)
    if problem:
        raise StepError(f"{text[:200]!r} cannot be written into a Modelfile: {problem}", REMEDY)
    return f'"""{text}"""' if "\n" in text or '"' in text else f'"{text}"'


def unsayable(text: str) -> str:
    """Why a Modelfile cannot have this text as an argument; empty if it can."""
    if '"""' in text:
        return "it has the quotation marks by which an argument ends"
    # Ollama's parser passes over what Go does not hold for printable.
    lost = sorted({character for character in text if not character.isprintable() and character not in "\n\t"})
    return f"Ollama leaves out {', '.join(f'U+{ord(character):04X}' for character in lost)}" if lost else ""


def usage(model: ServedGguf, path: str, bundle: Bundle, context: int | None) -> Iterator[str]:
    """Markdown on how Ollama makes it a model of its own, and serves it."""
    name = bundle.served_name(model.part)
    yield f"### {model.part.name}"
    yield model.told(context, "num_ctx")
    if model.base:
        yield "It is an adapter on its model: Ollama takes adapters up to version 0.34.0, and not from 0.34.1 on."
    yield "Make it one of Ollama's models, and chat with it:"
    yield block("sh", f"ollama create {name} -f {path}", f"ollama run {name}")
    yield "Ollama serves it as well; a question to its OpenAI-compatible server:"
    yield question(11434, name)
    yield (
        "The Modelfile has the model's own chat template in Go's language, for conversations without tools. Newer "
        "versions of Ollama may take the template in the GGUF file instead, which says the same."
    )


def _beside(model: ServedGguf, path: str) -> str:
    """A file of the release as it is found from the Modelfile."""
    found = os.path.relpath(path, model.part.folder)
    return found if found.startswith("../") else f"./{found}"
