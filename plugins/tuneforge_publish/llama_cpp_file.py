"""A GGUF file's chat template as llama.cpp itself understands it."""

from __future__ import annotations

from jinja2 import TemplateError

from tuneforge import StepError
from tuneforge.kit.llamacpp import loaded
from tuneforge.kit.templates import render

from .gguf_file import GgufFile
from .templates import CONVERSATIONS

_CONTEXT = 512


def verify_template(file: GgufFile, *, threads: int) -> None:
    """Compares what llama.cpp's server makes of conversations with what transformers makes of them by the template.

    Token by token, with what the server puts ahead. Raises StepError where they differ, or without a template.
    """
    template, bos, eos = file.template, file.token("bos"), file.token("eos")
    with loaded(file.path, threads=threads, context=_CONTEXT) as llama:
        for messages in CONVERSATIONS:
            # What llama.cpp's server passes to a template depends on whether it finds that the model can think.
            given: list[dict[str, bool]] = [{}, {"enable_thinking": True}, {"enable_thinking": False}]
            try:
                wants = [render(template, messages, bos=bos, eos=eos, **more) for more in given]
            except TemplateError:
                continue  # a system message to a model that knows none, say
            text = llama.render(messages)
            got = llama.tokenize(text, special=True)
            if got not in [llama.tokenize(want) for want in wants]:
                raise StepError(
                    f"llama.cpp makes {text!r} of a conversation with {'a' if file.adds_bos else 'no'} BOS token put "
                    f"ahead, and the model's own template {wants[0]!r}",
                    "Export the GGUF file again from the model as it is, or make the template simpler.",
                )
