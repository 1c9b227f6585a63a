"""Models and adapters, by transformers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from tests.chat.conftest import House
from tests.gguf.small_models import byte_level, rewrite, sentencepiece_like, write_model
from tuneforge import Adapter, Manner, Message, Model, StepError
from tuneforge.kit.models import load_model, load_tokenizer, save_adapter
from tuneforge_chat import Transformers
from tuneforge_chat.engine import Loaded, _text
from tuneforge_models import shipped

pytestmark = pytest.mark.slow

TINY = shipped.SHIPPED / "tiny"
QUESTION = "Record this order: 4 pitchers for Pelmey in Everridge"


def say(*turns: str, system: str = "") -> list[Message]:
    roles = ("user", "assistant")
    said = [Message(role=roles[place % 2], content=text) for place, text in enumerate(turns)]
    return [Message(role="system", content=system), *said] if system else said


def reply(voice: Any, messages: Sequence[Message], manner: Manner | None = None) -> tuple[list[str], str]:
    """The pieces of an answer, and what cut it off."""
    pieces = []
    answer = voice.reply(messages, manner or Manner(40))
    while True:
        try:
            pieces.append(next(answer))
        except StopIteration as end:
            return pieces, end.value


def generated(model: Any, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], most: int = 40) -> str:
    """The answer by transformers alone."""
    prompt: Any = tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    output = model.generate(
        **prompt, do_sample=False, max_new_tokens=most, eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )
    return str(tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.fixture(scope="module")
def tiny() -> Loaded:
    return Loaded(Model(TINY, "tiny"), 1, None)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    """One that changes the built-in model a lot."""
    base, folder = Model(TINY, "ab" * 32), tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    lora = get_peft_model(
        load_model(base, dtype=torch.float32), LoraConfig(r=8, lora_alpha=32, init_lora_weights=False)
    )
    save_adapter(lora, load_tokenizer(base), folder, base)
    return Adapter(folder, "adapter", base)


@pytest.mark.parametrize(
    "messages", [say(QUESTION), say("Hello", "Hello!", "And again"), say("Hello", system="Answer in JSON.")]
)
def test_pieces_make_the_answer_that_transformers_gives(tiny: Loaded, messages: list[Message]) -> None:
    pieces, cut = reply(tiny, messages)
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    whole = generated(model, AutoTokenizer.from_pretrained(TINY), messages)
    assert "".join(pieces) == whole
    assert all(pieces)
    assert messages != say(QUESTION) or len(pieces) > 1, "it is told as it is written"
    assert cut in ("", "cut off after 40 tokens, as --max-tokens says")


def test_an_adapter_answers_on_its_model(tiny: Loaded, adapter: Adapter) -> None:
    pieces, _ = reply(Loaded(adapter, 1, None), say(QUESTION))
    model = load_model(adapter, dtype=torch.float32)
    assert "".join(pieces) == generated(model, load_tokenizer(adapter), say(QUESTION))
    assert pieces != reply(tiny, say(QUESTION))[0]


def test_the_same_seed_draws_the_same(tiny: Loaded) -> None:
    drawn = ["".join(reply(tiny, say(QUESTION), Manner(20, 1.5, 1.0, seed))[0]) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    # From the one likeliest token, there is nothing to draw.
    assert reply(tiny, say(QUESTION), Manner(20, 1.5, 1e-6, 1)) == reply(tiny, say(QUESTION), Manner(20))


def test_a_stop_token_of_the_template_ends_the_answer(tiny: Loaded, tmp_path: Path) -> None:
    """Whatever else the model's own files say."""
    whole, cut = reply(tiny, say("Hello"), Manner(400))
    assert cut == "", "the built-in model ends its answers"
    model = shutil.copytree(TINY, tmp_path / "model")
    rewrite(model / "generation_config.json", eos_token_id=None, do_sample=True, temperature=3.0)
    assert reply(Loaded(Model(model, "other"), 1, None), say("Hello"), Manner(400)) == (whole, "")


def test_the_context_is_never_left(tiny: Loaded) -> None:
    prompt = len(
        load_tokenizer(Model(TINY, "")).apply_chat_template(say(QUESTION), add_generation_prompt=True)["input_ids"]
    )
    narrow = Loaded(Model(TINY, "tiny"), 1, prompt + 2)
    pieces, cut = reply(narrow, say(QUESTION))
    assert cut == f"cut off: the context of {prompt + 2} tokens is full"
    assert "".join(reply(tiny, say(QUESTION))[0]).startswith("".join(pieces))
    full = Loaded(Model(TINY, "tiny"), 1, prompt)
    with pytest.raises(StepError, match=f"has {prompt} tokens, which fills the context of {prompt} tokens"):
        reply(full, say(QUESTION))
    with pytest.raises(StepError, match="fills the context of 4096 tokens"):
        reply(tiny, say("many words " * 5000))


def test_what_the_template_refuses_is_told_and_the_next_question_is_answered(tiny: Loaded, tmp_path: Path) -> None:
    model = shutil.copytree(TINY, tmp_path / "model")
    template = (model / "chat_template.jinja").read_text()
    refusing = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{%- endif %}"
    (model / "chat_template.jinja").write_text(refusing + template)
    voice = Loaded(Model(model, "strict"), 1, None)
    with pytest.raises(StepError, match=r"refuses a conversation \(system, user\): no system message"):
        reply(voice, say("Hello", system="Be brief."))
    assert reply(voice, say("Hello")) == reply(tiny, say("Hello"))


def test_an_answer_that_is_closed_is_written_no_further() -> None:
    endless = Loaded(Model(TINY, "tiny"), 1, None)
    endless._stops = []
    steps: list[int] = []
    endless._model.register_forward_hook(lambda *_: steps.append(1))
    answer = endless.reply(say(QUESTION), Manner(1000, 5.0, 1.0, 1))
    next(answer)
    answer.close()
    assert len(steps) < 100
    before = len(steps)
    assert reply(endless, say("Hello"), Manner(5))[0], "it can be asked again at once"
    assert len(steps) == before + 5


@pytest.mark.parametrize("tokenizer", [byte_level(), sentencepiece_like()], ids=["byte-level", "sentencepiece"])
@pytest.mark.parametrize("text", ["żółć 東京 🚀👨‍👩‍👧 end", "🚀", "  two spaces\n\nand lines ", ""])
def test_no_character_is_told_in_halves(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = list(_text(tokenizer, ids, []))
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
    assert len(ids) < 6 or len(pieces) > 1
    assert all(pieces)


def test_halves_of_characters_that_stay_so_are_told_in_the_end() -> None:
    tokenizer = byte_level()
    ids: list[int] = tokenizer("a🚀", add_special_tokens=False)["input_ids"][:-1]
    assert "".join(_text(tokenizer, ids, [])) == tokenizer.decode(ids) == "a\N{REPLACEMENT CHARACTER}"


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path, converse: House) -> None:
    folder = write_model(tmp_path / "plain", byte_level())
    (folder / "chat_template.jinja").unlink()
    converse.take("plain", "model", folder)
    ended = converse.ask("hello", "plain")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("plain: the model has no chat template\n")
    assert not list(Transformers().check(Model.facts(TINY)))


@pytest.fixture(scope="module")
def converse(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("converse"), {})


@pytest.mark.slow
def test_from_the_registry_to_standard_output(converse: House, adapter: Adapter, tiny: Loaded, tmp_path: Path) -> None:
    base = converse.take("tiny", "model", shutil.copytree(TINY, tmp_path / "tiny"))
    converse.take("tuned", "adapter", shutil.copytree(adapter.path, tmp_path / "tuned"), base)
    ended = converse.ask(f"{QUESTION}\n", "tiny@v1", "tuned", "--max-tokens", "40")
    answers = ["".join(reply(voice, say(QUESTION))[0]) for voice in (tiny, Loaded(adapter, 1, None))]
    assert ended.code == 0, ended.err
    assert ended.out == "## tiny@v1\n{}\n\n## tuned\n{}\n".format(*answers)
    assert set(ended.err.splitlines()) <= {"(cut off after 40 tokens, as --max-tokens says)"}
