"""Chat templates as other engines have them: they write what transformers writes, or they are refused."""

from __future__ import annotations

from pathlib import Path

import jinja2
import minijinja
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from tests.gguf.small_models import CHATML
from tests.publish.golang import in_go
from tuneforge.kit.templates import plain, render
from tuneforge_models.fresh import CHAT_TEMPLATE
from tuneforge_publish.templates import CONVERSATIONS, Turns, answer_end, turns_of

DEFAULT_SYSTEM = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are kind: {{ always }}.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) or message.role == "assistant" %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
ALTERNATING = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system messages') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<turn>' + role + '\n' + message['content'] + '</turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
WITH_BOS = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|{{ message.role }}|>\n\n{{ message.content }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
)
TRIMMING = WITH_BOS.replace("message.content", "message.content | trim")
FOLDED = (
    "{% for message in messages %}{% if message.role == 'user' %}[INST] {% if loop.index0 == 1 and messages[0].role == "
    "'system' %}{{ messages[0].content }}\n\n{% endif %}{{ message.content }} [/INST]{% elif message.role == "
    "'assistant' %} {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
SPACED = """
{# a comment on top #}
{% for message in messages %}
  {% generation %}
  {{ message.role }}: {{ message.content }}
  {% endgeneration %}
    {%- if loop.last +%}
  last
  {% endif %}
{% endfor %}
-> {% raw %}{{ "x" }}{% endraw %}


"""
BRACES = (
    "{% for message in messages %}{{ '{' + message.role + ':{' + message.content + '}{{' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '{assistant:{' }}{% endif %}"
)
DATED = (
    "{{ '<|system|>Today is ' + strftime_now('%d %B %Y') + '.<|eot|>' }}{% for message in messages %}"
    "<|{{ message.role }}|>{{ message.content }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEMPLATES = {
    "ours": CHAT_TEMPLATE.read_text(encoding="utf-8"),
    "chatml": CHATML,
    "default system": DEFAULT_SYSTEM,
    "alternating": ALTERNATING,
    "bos": WITH_BOS,
    "trimming": TRIMMING,
    "folded": FOLDED,
    "spaced": SPACED,
    "braces": BRACES,
}
TOKENS = {"bos": "<s>", "eos": "</s>"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_writes_what_it_writes_in_transformers_and_in_an_engine_that_trims_nothing(name: str) -> None:
    """TGI has minijinja, without trim_blocks or lstrip_blocks: router/src/infer/chat_template.rs of 3.3.7."""

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    engine = minijinja.Environment(pycompat=True, globals={"raise_exception": refuse})
    given = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    written = 0
    for messages in CONVERSATIONS:
        try:
            (want,), _ = render_jinja_template([list(messages)], chat_template=TEMPLATES[name], **given)
        except jinja2.TemplateError:
            with pytest.raises(jinja2.TemplateError):
                render(TEMPLATES[name], messages, **TOKENS)
            continue
        assert render(TEMPLATES[name], messages, **TOKENS) == want
        assert engine.render_str(plain(TEMPLATES[name]), messages=messages, tools=None, **given) == want
        written += 1
    assert written >= 3 and "generation %}" not in plain(TEMPLATES[name])


def test_what_is_translated_writes_the_same_in_go(tmp_path: Path) -> None:
    names = ["ours", "chatml", "default system", "bos", "alternating", "braces"]
    found = [turns_of(TEMPLATES[name], **TOKENS) for name in names]
    turns = [each for each in found if isinstance(each, Turns)]
    assert len(turns) == len(names), found
    for name, each, told in zip(names, turns, in_go([each.in_go() for each in turns], tmp_path), strict=True):
        compared = 0
        for messages, text in zip(CONVERSATIONS, told, strict=True):
            if messages[0]["role"] == "system" and each.system is None:
                assert name == "alternating"
                continue
            assert text == render(TEMPLATES[name], messages, **TOKENS), name
            compared += 1
        assert compared == (3 if name == "alternating" else 9)


@pytest.mark.parametrize("name", ["trimming", "folded", "spaced"])
def test_what_is_more_than_text_around_messages_is_not_translated(name: str) -> None:
    assert isinstance(turns_of(TEMPLATES[name], **TOKENS), str)


def test_a_template_that_tells_the_day_is_not_translated() -> None:
    told = turns_of(DATED, **TOKENS)
    assert told == "the chat template tells the day", "or the day of the publication would be every day's"


def test_a_bos_token_that_the_engine_adds_is_left_to_it() -> None:
    turns = turns_of(WITH_BOS, **TOKENS, adds_bos=True)
    assert isinstance(turns, Turns) and turns.opening == "" and turns.system == turns.later
    told = turns_of(CHATML, **TOKENS, adds_bos=True)
    assert isinstance(told, str) and "a BOS token put ahead" in told


def test_a_system_message_in_the_middle_is_where_it_was(tmp_path: Path) -> None:
    turns = turns_of(DEFAULT_SYSTEM, **TOKENS)
    assert isinstance(turns, Turns)
    messages = [
        {"role": role, "content": f"{role}!"} for role in ("user", "assistant", "system", "user", "assistant", "user")
    ]
    assert turns.render(messages) == render(DEFAULT_SYSTEM, messages)


@pytest.mark.parametrize(
    ("name", "end"), [("ours", "<|im_end|>"), ("bos", "<|eot|>"), ("folded", "</s>"), ("spaced", None)]
)
def test_an_answer_ends_with_a_special_token(name: str, end: str | None) -> None:
    special = ["<|im_end|>", "<|eot|>", "</s>", "<|"]
    assert answer_end(TEMPLATES[name], special, **TOKENS) == end
