"""Models from nothing: the same bytes everywhere, a tokenizer that loses nothing, a template that marks the answers."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from tuneforge_models import fresh

TEXTS = [
    'The customer Kim orders 12 lamps: {"customer":"Kim","item":"lamps","quantity":12}',
    "A user asks, the assistant answers, and a tool of the system finds the lamps.",
] * 3

Messages = list[dict[str, Any]]


def tokenizer_() -> PreTrainedTokenizerFast:
    return fresh.make_tokenizer(TEXTS, vocab_size=320)


def model_(tokenizer: PreTrainedTokenizerFast, architecture: Literal["llama", "qwen2", "mistral"]) -> PreTrainedModel:
    return fresh.make_model(
        architecture,
        tokenizer,
        hidden_size=16,
        intermediate_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        context=64,
        tied=architecture == "llama",
        dtype=torch.bfloat16,
        seed=7,
    )


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer_()


@pytest.fixture(scope="module")
def saved(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    fresh.save(model_(tokenizer, "llama"), tokenizer, folder)
    return folder


def test_another_process_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a" / "deeper" / "folder"
    elsewhere.mkdir(parents=True)
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "from pathlib import Path; import test_fresh as t\n"
        "tokenizer = t.tokenizer_()\n"
        "t.fresh.save(t.model_(tokenizer, 'llama'), tokenizer, Path('.'))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=elsewhere, env=environment, check=True)
    assert digests(elsewhere) == digests(saved)


def test_nothing_written_depends_on_who_wrote_it(saved: Path) -> None:
    written = b"".join(path.read_bytes() for path in saved.iterdir())
    assert b"transformers_version" not in written
    assert str(saved).encode() not in written


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
def test_a_saved_model_loads_and_generates(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, architecture: Literal["llama", "qwen2", "mistral"]
) -> None:
    fresh.save(model_(tokenizer, architecture), tokenizer, tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (model.config.model_type, model.dtype) == (architecture, torch.bfloat16)
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == (None, "<|im_end|>", "<|endoftext|>")
    assert model.generation_config.eos_token_id == loaded.eos_token_id
    prompt = loaded("Kim orders lamps", return_tensors="pt")
    assert prompt["input_ids"].tolist() == [tokenizer("Kim orders lamps")["input_ids"]]
    answer = model.generate(**prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert answer.shape[1] == prompt["input_ids"].shape[1] + 4


def test_weights_follow_the_seed_and_leave_the_callers_random_numbers_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second = model_(tokenizer, "llama"), model_(tokenizer, "llama")
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@given(text=st.text())
def test_text_survives_tokenizing(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@given(word=st.from_regex(r"[A-Za-z]{1,12}|[0-9]{1,5}", fullmatch=True))
def test_a_word_is_the_same_tokens_after_a_space_and_after_a_quotation_mark(
    tokenizer: PreTrainedTokenizerFast, word: str
) -> None:
    alone = tokenizer(word)["input_ids"]
    for before in ("orders ", '{"customer":"', "(", "lamps, "):
        assert tokenizer(before + word)["input_ids"][-len(alone) :] == alone


TOOL = {
    "type": "function",
    "function": {"name": "find", "description": "Finds \u00e9.", "parameters": {"type": "object"}},
}
TOOLS = """You may call these tools:
<tools>
{"type": "function", "function": {"name": "find", "description": "Finds \u00e9.", "parameters": {"type": "object"}}}
</tools>
To call one, write its name and arguments as JSON:
<tool_call>
{"name": ..., "arguments": {...}}
</tool_call>"""
HELLO: Messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good morning."}]
HELLO_TEXT = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nGood morning.<|im_end|>\n"


def render(tokenizer: PreTrainedTokenizerFast, messages: Messages, **options: Any) -> str:
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    assert isinstance(text, str)
    return text


def called(*calls: dict[str, Any], content: str | None = None) -> Messages:
    return [
        {"role": "user", "content": "Find lamps"},
        {"role": "assistant", "content": content, "tool_calls": list(calls)},
        {"role": "tool", "name": "find", "content": "12"},
        {"role": "assistant", "content": "There are 12."},
    ]


def find(arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "find", "arguments": arguments}}


def test_a_chat_gets_no_system_turn_that_nobody_wrote(tokenizer: PreTrainedTokenizerFast) -> None:
    assert render(tokenizer, HELLO) == HELLO_TEXT


def test_a_system_turn_comes_first(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "system", "content": "Be kind."}, *HELLO]
    assert render(tokenizer, messages) == "<|im_start|>system\nBe kind.<|im_end|>\n" + HELLO_TEXT


def test_a_generation_prompt_opens_the_assistants_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = render(tokenizer, HELLO[:1], add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert HELLO_TEXT.startswith(prompt)


@pytest.mark.parametrize(
    ("system", "before"), [([], ""), ([{"role": "system", "content": "Be kind."}], "Be kind.\n\n")]
)
def test_tools_are_listed_in_the_system_turn(tokenizer: PreTrainedTokenizerFast, system: Messages, before: str) -> None:
    text = render(tokenizer, [*system, *HELLO], tools=[TOOL])
    assert text == f"<|im_start|>system\n{before}{TOOLS}<|im_end|>\n{HELLO_TEXT}"


@pytest.mark.parametrize(
    "call",
    [find({"of": "lamps"}), find('{"of": "lamps"}'), {"name": "find", "arguments": {"of": "lamps"}}],
    ids=["dict", "string", "bare"],
)
@pytest.mark.parametrize(("content", "before"), [(None, ""), ("", ""), ("One moment.", "One moment.\n")])
def test_tool_calls_and_their_results(
    tokenizer: PreTrainedTokenizerFast, call: dict[str, Any], content: str | None, before: str
) -> None:
    block = '<tool_call>\n{"name": "find", "arguments": {"of": "lamps"}}\n</tool_call>'
    assert render(tokenizer, called(call, content=content)) == (
        "<|im_start|>user\nFind lamps<|im_end|>\n"
        f"<|im_start|>assistant\n{before}{block}<|im_end|>\n"
        "<|im_start|>tool\n<tool_response>\n12\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nThere are 12.<|im_end|>\n"
    )


def test_two_calls_stand_in_one_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    text = render(tokenizer, called(find({"of": "lamps"}), find({"of": "\u00e9"})))
    turn = text.split("<|im_start|>assistant\n")[1].split("<|im_end|>")[0]
    calls = [json.loads(block.strip()) for block in turn.replace("</tool_call>", "").split("<tool_call>")[1:]]
    assert [call["arguments"]["of"] for call in calls] == ["lamps", "\u00e9"]


def test_exactly_the_assistants_words_and_their_end_are_marked(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "system", "content": "Be kind."}, *HELLO, *called(find({"of": "lamps"}), content="Moment.")]
    rendered: Any = tokenizer.apply_chat_template(
        messages, tools=[TOOL], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = rendered["input_ids"], rendered["assistant_masks"]
    marked = tokenizer.decode([token for token, learned in zip(ids, mask, strict=True) if learned])
    assert marked == (
        "Good morning.<|im_end|>"
        'Moment.\n<tool_call>\n{"name": "find", "arguments": {"of": "lamps"}}\n</tool_call><|im_end|>'
        "There are 12.<|im_end|>"
    )


def test_roles_and_terminators_are_single_tokens_that_text_cannot_lose(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer(render(tokenizer, HELLO))["input_ids"]
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 2
    assert ids.count(tokenizer.eos_token_id) == 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == "user\nHello\nassistant\nGood morning.\n"
