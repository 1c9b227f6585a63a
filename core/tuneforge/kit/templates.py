"""Chat templates as transformers renders them, without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

Messages = Sequence[Mapping[str, Any]]


def plain(template: str) -> str:
    """The same template for an engine that neither trims around blocks by itself nor knows `{% generation %}`.

    transformers removes the line break after a block and the spaces before one; here that is done already, so that
    whoever leaves them alone writes the same text.
    """
    text: list[str] = []
    block: list[str] | None = None
    for _, kind, value in _TRIMMING.lex(template):
        if kind.startswith("comment"):
            continue
        if kind.endswith(("_begin", "_end")):
            value = value.strip().replace("-", "").replace("+", "")
        if kind == "block_begin":
            block = []
        (text if block is None else block).append(value)
        if kind == "block_end" and block is not None:
            if "".join(block[1:-1]).strip() not in ("generation", "endgeneration"):
                text += block
            block = None
    whole = "".join(text)
    # Of the line breaks at the end of a template, every engine takes one away.
    return whole + "{{ '' }}" if whole.endswith("\n") else whole


def render(template: str, messages: Messages, *, bos: str = "", eos: str = "", answer: bool = True, **more: Any) -> str:
    """What transformers makes of a conversation, up to the answer if one is to follow. `more` goes to the template.

    Raises jinja2.TemplateError where the template refuses it.
    """
    given = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": answer, "tools": None, **more}
    return _prepared(template).render(messages=messages, **given)


# As transformers has them.
_TRIMMING = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)


@lru_cache
def _prepared(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = lambda value, **more: json.dumps(value, ensure_ascii=False, **more)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(plain(template))


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def thinking_unasked(template: str, *, bos: str = "", eos: str = "") -> bool | None:
    """What `enable_thinking` must be for a template to write what it writes without; None if that makes no difference.

    llama.cpp's server passes it to every template that knows it, as true, and a model is trained without.
    """
    question = [{"role": "user", "content": "Why?"}]
    given: list[dict[str, bool]] = [{}, {"enable_thinking": True}, {"enable_thinking": False}]
    try:
        without, thinking, at_once = (render(template, question, bos=bos, eos=eos, **more) for more in given)
    except jinja2.TemplateError:
        return None
    if thinking == at_once:
        return None
    return {thinking: True, at_once: False}.get(without)
