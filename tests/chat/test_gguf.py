"""GGUF files, by llama.cpp."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.chat.conftest import House, alive, eventually
from tests.chat.test_command import descendants
from tests.chat.test_transformers import QUESTION, TINY, reply, say
from tests.gguf.conftest import converter  # noqa: F401  # a fixture
from tuneforge import Facts, Gguf, GgufAdapter, Manner, Model, StepError, Terms
from tuneforge.kit.chats import prompt_ids
from tuneforge.kit.models import load_tokenizer
from tuneforge_gguf import LlamaCpp, LlamaCppServer
from tuneforge_gguf.export import export
from tuneforge_gguf.serving import serve
from tuneforge_gguf.talking import Loaded

pytestmark = pytest.mark.slow

TERMS = Terms("127.0.0.1", 8000, "bot")
CONVERSATIONS = [
    say(QUESTION),
    say("Hello", "Hello!", "  Żółć, 東京 🚀\n\nand <|im_end|> this "),
    say("Hello", system="Answer in JSON."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, converter: Path) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("gguf")
    export(TINY, folder, "bf16", converter, log=print)
    return folder


@pytest.fixture(scope="module")
def voice(folder: Path) -> Loaded:
    return Loaded(folder, 1, None)


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_the_prompt_is_what_the_model_was_trained_on(voice: Loaded, messages: list) -> None:  # type: ignore[type-arg]
    assert voice.prompt(messages) == prompt_ids(load_tokenizer(Model(TINY, "")), messages)


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_pieces_make_the_answer_that_llama_cpp_gives(voice: Loaded, messages: list) -> None:  # type: ignore[type-arg]
    pieces, cut = reply(voice, messages)
    body = {"prompt": voice.prompt(messages), "n_predict": 40, "temperature": 0}
    whole = voice._llama._post("/completion", body)
    assert "".join(pieces) == whole["content"]
    assert all(pieces)
    assert bool(cut) == (whole["stop_type"] == "limit")


def test_no_character_is_told_in_halves(voice: Loaded) -> None:
    text = "żółć 東京 🚀👨‍👩‍👧 end"
    pieces = list(voice._llama.answer(voice.prompt(say("Hello")), 200, grammar=f'root ::= "{text}"'))
    assert "".join(pieces) == text
    assert len(pieces) > 5
    assert all(pieces)


def test_a_chat_that_is_repeated_with_its_seed_draws_the_same(folder: Path) -> None:
    # Each in a server of its own: what one has read already it does not read again, which moves the last bits.
    def draw(manner: Manner) -> str:
        return "".join(reply(Loaded(folder, 1, None), say(QUESTION), manner)[0])

    drawn = [draw(Manner(20, 1.5, 1.0, seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert draw(Manner(20, 1.5, 1e-6, 1)) == draw(Manner(20))


def test_the_context_is_never_left(voice: Loaded, folder: Path) -> None:
    prompt = len(voice.prompt(say(QUESTION)))
    pieces, cut = reply(Loaded(folder, 1, prompt + 2), say(QUESTION))
    assert cut == f"cut off: the context of {prompt + 2} tokens is full"
    assert "".join(reply(voice, say(QUESTION))[0]).startswith("".join(pieces))
    with pytest.raises(StepError, match="fills the context of 4096 tokens"):
        reply(voice, say("many words " * 5000))
    assert reply(voice, say("Hello"))[0], "it can be asked again"


def test_after_an_answer_that_is_closed_it_can_be_asked_again(voice: Loaded) -> None:
    answer = voice.reply(say(QUESTION), Manner(3000, 5.0, 1.0, 1))
    next(answer)
    answer.close()
    assert reply(voice, say("Hello"), Manner(5))[0]


def test_a_file_without_a_chat_template_is_refused(folder: Path, tmp_path: Path) -> None:
    (file,) = folder.glob("*.gguf")
    without = file.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_templatx", 1)
    (tmp_path / file.name).write_bytes(without)
    assert not list(LlamaCpp().check(Gguf.facts(folder)))
    (finding,) = LlamaCpp().check(Gguf.facts(tmp_path))
    assert finding.problem == "the gguf has no chat template"
    assert list(LlamaCppServer().check(Gguf.facts(tmp_path), TERMS)) == [finding]
    assert not list(LlamaCppServer().check(Facts(GgufAdapter), TERMS)), "it has none of its own"
    with pytest.raises(StepError, match="the GGUF file has no chat template"):
        serve(Gguf(tmp_path, "a"), GgufAdapter(tmp_path, "b"), TERMS)


def test_from_the_registry_to_standard_output(voice: Loaded, folder: Path, tmp_path: Path) -> None:
    house = House(tmp_path, {})
    house.take("file", "gguf", shutil.copytree(folder, tmp_path / "out"))
    ended = house.ask(f"{QUESTION}\n", "file", "--max-tokens", "40")
    assert ended.code == 0, ended.err
    assert ended.out == "".join(reply(voice, say(QUESTION))[0]) + "\n"
    process = house.start("file", "--temperature", "5", "--max-tokens", "4000")
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write("Hello")
    process.stdin.close()
    process.stdout.read(1)
    children = descendants(process.pid)
    assert len(children) == 3, "a server, the speaker that it has forked, and llama.cpp"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert eventually(lambda: not alive(*children))
    process.stdout.close()
    process.stderr.close()
