"""What a chat template tells of itself before anything runs, rendered without transformers."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NoReturn

_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, "abcd", strict=True)]


@lru_cache
def hides_turns(template: str) -> bool:
    """Whether the first of two answers cannot be told from a template's rendering, nor from its markers.

    False, too, of a template that cannot be rendered here: it is tried again on the rows.
    """
    if _MARKERS.search(template):
        return False
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: form}
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "tools": None}
    try:
        compiled = environment.from_string(template)

        def render(messages: int, prompt: bool = False) -> str:
            context: dict[str, Any] = {"messages": _PROBE[:messages], "add_generation_prompt": prompt}
            return compiled.render(**context, **special)

        before, through, whole = render(1, prompt=True), render(2), render(4)
    except (jinja2.TemplateError, TypeError, ValueError):
        return False
    return not (through.startswith(before) and whole.startswith(through))
