"""What of a conversation is under loss, for templates of every make."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from tuneforge import Model, StepError
from tuneforge.kit.chats import IGNORED, ChatRefusedError, Tokens, prompt_ids, terminator, tokenize_chat
from tuneforge.kit.models import load_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT_SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
LLAMA_2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
BARE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# The last turn alone shows that no thought came before it, as with Qwen 3.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}GENERATION{{ '<think></think>' if loop.last }}{{ m.content }}END"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML

CHAT = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "first  answer\n"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "second"},
]


@pytest.fixture(scope="session")
def plain(base: Model) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(base)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    return tokenizer


def under(template: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    tokenizer = deepcopy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def learnt(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> str:
    assert len(tokens.ids) == len(tokens.labels)
    assert all(label in (token, IGNORED) for token, label in zip(tokens.ids, tokens.labels, strict=True))
    return tokenizer.decode([label for label in tokens.labels if label != IGNORED])


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (CHATML, "first  answer\n<|im_end|>second<|im_end|>"),
        (DEFAULT_SYSTEM, "first  answer\n<|im_end|>second<|im_end|>"),
        (LLAMA_2, " first  answer\n<|im_end|> second<|im_end|>"),
        # Nothing but the line break ends a turn here.
        (BARE, "first  answer\n\nsecond\n"),
        # The markers close before the terminator, which is learnt all the same.
        (
            THINKING.replace("GENERATION", "{% generation %}").replace("END", "{% endgeneration %}"),
            "first  answer\n<|im_end|><think></think>second<|im_end|>",
        ),
    ],
    ids=["chatml", "default-system", "llama-2", "bare", "thinking"],
)
def test_turns_and_terminators(template: str, wanted: str, plain: PreTrainedTokenizerBase) -> None:
    tokenizer = under(template, plain)
    tokens = tokenize_chat(tokenizer, CHAT)
    assert learnt(tokenizer, tokens) == wanted
    assert tokenizer.decode(tokens.ids) == tokenizer.apply_chat_template(CHAT, tokenize=False)


def test_the_models_own_template_with_tools(base: Model) -> None:
    tokenizer = load_tokenizer(base)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    chat: list[dict[str, Any]] = [
        {"role": "system", "content": "Answer."},
        {"role": "user", "content": "Rain in Oslo?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "rain"},
        {"role": "assistant", "content": "Yes."},
    ]
    tokens = tokenize_chat(tokenizer, chat, tools)
    asked = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'
    assert learnt(tokenizer, tokens) == f"{asked}Yes.<|im_end|>"


def test_one_bos_and_no_more(plain: PreTrainedTokenizerBase) -> None:
    tokenizer = under(LLAMA_2, plain)
    assert tokenize_chat(tokenizer, CHAT).ids.count(tokenizer.bos_token_id) == 1
    prompt = prompt_ids(tokenizer, CHAT[:1])
    assert tokenizer.decode(prompt) == "<s>[INST] one [/INST]"
    assert tokenize_chat(tokenizer, CHAT).ids[: len(prompt)] == prompt


def test_beginnings_that_look_otherwise_later_on(plain: PreTrainedTokenizerBase) -> None:
    tokenizer = under(THINKING.replace("GENERATION", "").replace("END", ""), plain)
    with pytest.raises(ChatRefusedError, match="renders the beginning of a conversation differently"):
        tokenize_chat(tokenizer, CHAT)
    assert learnt(tokenizer, tokenize_chat(tokenizer, CHAT[:2])) == "<think></think>first  answer\n<|im_end|>"


def test_a_conversation_that_the_template_refuses(plain: PreTrainedTokenizerBase) -> None:
    tokenizer = under(NO_SYSTEM, plain)
    with pytest.raises(ChatRefusedError, match=r"refuses a conversation \(system, user\): no system role"):
        tokenize_chat(tokenizer, [{"role": "system", "content": "."}, CHAT[0]])
    with pytest.raises(ChatRefusedError, match="has no messages"):
        tokenize_chat(tokenizer, [])


def test_a_conversation_that_begins_with_the_assistant(plain: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ChatRefusedError, match="what comes before its first answer, has no messages"):
        tokenize_chat(under(CHATML, plain), CHAT[1:])
    marked = THINKING.replace("GENERATION", "{% generation %}").replace("END", "{% endgeneration %}")
    tokenizer = under(marked, plain)
    assert learnt(tokenizer, tokenize_chat(tokenizer, CHAT[1:2])) == "<think></think>first  answer\n<|im_end|>"


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "weather"}}]}


@pytest.mark.parametrize(
    ("template", "answer", "tools"),
    [
        (CHATML, CALL, None),
        (CHATML, CHAT[1], [TOOL]),
        # The tools are shown, the call is not.
        ("{{ tools | tojson }}" + CHATML, CALL, [TOOL]),
    ],
    ids=["calls", "tools", "calls-beside-tools"],
)
def test_a_template_that_leaves_out_tools(
    template: str, answer: Any, tools: list[Any] | None, plain: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(ChatRefusedError, match="leaves out the tool 'weather'"):
        tokenize_chat(under(template, plain), [CHAT[0], answer], tools)


MARKED = CHATML.replace("{{ m.content }}", "{% generation %}{{ m.content }}").replace(
    "\n{% endfor", "\n{% endgeneration %}{% endfor"
)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (CHATML.replace("<|im_end|>", "<|endoftext|>"), "<|endoftext|>"),
        (CHATML, "<|im_end|>"),
        (THINKING.replace("GENERATION", "").replace("END", ""), "<|im_end|>"),
        (MARKED, "<|im_end|>"),
        (BARE, None),
        ("{{ raise_exception('never') }}", None),
    ],
    ids=["endoftext", "chatml", "thinking", "marked", "bare", "refused"],
)
def test_what_ends_a_turn(template: str, wanted: str | None, plain: PreTrainedTokenizerBase) -> None:
    tokenizer = under(template, plain)
    found = terminator(tokenizer)
    assert (None if found is None else tokenizer.decode([found])) == wanted


def test_no_template(plain: PreTrainedTokenizerBase) -> None:
    tokenizer = deepcopy(plain)
    tokenizer.chat_template = None
    with pytest.raises(StepError, match="no chat template"):
        prompt_ids(tokenizer, CHAT[:1])


def test_todays_date_is_always_the_same(plain: PreTrainedTokenizerBase) -> None:
    tokenizer = under("Today is {{ strftime_now('%d %b %Y') }}.\n" + CHATML, plain)
    assert tokenizer.decode(prompt_ids(tokenizer, CHAT[:1])).startswith("Today is 26 Jul 2024.\n")


def test_offsets_without_leading_spaces(plain: PreTrainedTokenizerBase) -> None:
    from tokenizers import processors

    tokenizer = under(CHATML, plain)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    chat = [CHAT[0], {"role": "assistant", "content": " a   b é 🤗 "}]
    assert learnt(tokenizer, tokenize_chat(tokenizer, chat)) == " a   b é 🤗 <|im_end|>"


WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="<|"), max_size=20)


@settings(max_examples=150, deadline=None)
@given(
    template=st.sampled_from([CHATML, DEFAULT_SYSTEM, LLAMA_2]),
    system=st.none() | WORDS,
    turns=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4),
)
def test_any_conversation(
    template: str, system: str | None, turns: list[tuple[str, str]], plain: PreTrainedTokenizerBase
) -> None:
    tokenizer = under(template, plain)
    chat = [{"role": "system", "content": system}] if system is not None and template is not LLAMA_2 else []
    for question, answer in turns:
        chat += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    tokens = tokenize_chat(tokenizer, chat)
    space = " " if template is LLAMA_2 else ""
    assert learnt(tokenizer, tokens) == "".join(f"{space}{answer}<|im_end|>" for _, answer in turns)
    assert tokenizer.decode(tokens.ids) == tokenizer.apply_chat_template(chat, tokenize=False)
    prompt = prompt_ids(tokenizer, chat[:-1])
    assert tokens.ids[: len(prompt)] == prompt
