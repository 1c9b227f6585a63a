"""A chat in a real terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chat.conftest import House, Terminal, alive, eventually
from tests.chat.test_command import descendants

pytestmark = pytest.mark.slow

Sit = Callable[..., Terminal]


@pytest.fixture
def polly(sit_down: Sit) -> Terminal:
    terminal = sit_down("polly")
    terminal.read("> ")
    return terminal


def test_questions_are_answered_with_what_was_said_before(polly: Terminal) -> None:
    assert "polly: bird " in polly.seen
    assert polly.ask("hello there") == "polly: hello there\n"
    assert polly.ask("messages") == "user:hello there|assistant:polly: hello there\n"
    polly.type("\x04")
    assert polly.end() == 0


def test_several_answer_one_after_another_and_know_their_own_answers_only(sit_down: Sit) -> None:
    terminal = sit_down("polly", "jack", "--system", "Be loud.")
    terminal.read("> ")
    assert terminal.ask("hello") == "── polly\npolly: hello\n── jack\njack: hello\n"
    polly, jack = (f"system:Be loud.|user:hello|assistant:{name}: hello" for name in ("polly", "jack"))
    assert terminal.ask("messages") == f"── polly\n{polly}\n── jack\n{jack}\n"


def test_commands(polly: Terminal, aviary: House) -> None:
    polly.ask("one")
    polly.ask("two")
    assert "forgotten: two" in polly.ask("/undo")
    assert polly.ask("messages") == "user:one|assistant:polly: one\n"
    polly.ask("/undo")
    polly.type("/again\r")
    assert "polly: one" in polly.read("\n> ")
    assert polly.ask("messages") == "user:one|assistant:polly: one\n"
    assert "a new conversation" in polly.ask("/new")
    assert "system message: Be brief." in polly.ask("/system Be brief.")
    assert polly.ask("messages") == "system:Be brief.\n"
    assert "no system message" in polly.ask("/system")
    assert "did you mean /again?" in polly.ask("/agian")
    for command in ("/again", "/undo", "/new", "/system", "/save", "/help", "/quit"):
        assert command in polly.ask("/help")
    polly.type("/quit\r")
    assert polly.end() == 0


def test_what_only_looks_like_a_command_is_a_question(polly: Terminal) -> None:
    polly.type("/etc/hosts is what?\r")
    polly.read("polly: /etc/hosts is what?\n")
    polly.read("> ")
    polly.type(" /new\r")
    polly.read("polly: /new\n")


def test_a_conversation_is_saved_as_rows_to_train_on(polly: Terminal, aviary: House) -> None:
    file = aviary.folder / "saved.jsonl"
    assert "nothing was answered yet" in polly.ask(f"/save {file}")
    polly.ask("żółć")
    assert "1 conversation" in polly.ask(f"/save {file}")
    polly.ask("/new")
    polly.ask("hello")
    polly.ask(f"/save {file}")
    exchanges = [[("user", text), ("assistant", f"polly: {text}")] for text in ("żółć", "hello")]
    rows = [{"messages": [{"role": role, "content": text} for role, text in row]} for row in exchanges]
    assert [json.loads(line) for line in file.read_text().splitlines()] == rows
    assert "No such file" in polly.ask("/save nowhere/x.jsonl")
    recipe = aviary.folder / "recipe.yaml"
    recipe.write_text("steps: {chats: {format: chat, with: {path: saved.jsonl}}}\n")
    command = [sys.executable, "-m", "tuneforge.cli", "plan", str(recipe)]
    subprocess.run(command, env=aviary.environment, check=True, capture_output=True)


def test_an_interrupt_stops_the_answer_and_what_was_written_of_it_counts(sit_down: Sit) -> None:
    terminal = sit_down("polly", "jack")
    terminal.read("> ")
    terminal.type("count\r")
    terminal.read("── polly\n0 1 2 ")
    terminal.type("\x03")
    terminal.read("(stopped)")
    terminal.read("── jack\n0 1 2 ")
    terminal.type("\x03")
    terminal.read("(stopped)")
    terminal.read("> ")
    assert re.search(r"polly\nuser:count\|assistant:0 1 2[\d ]*\n", terminal.ask("messages"))
    terminal.type("half a line")
    terminal.read("half a line")
    terminal.type("\x03")
    terminal.read("> ")
    assert "── polly\npolly: whole\n" in terminal.ask("whole")
    terminal.type("/quit\r")
    assert terminal.end() == 0


def test_an_interrupt_that_is_repeated_leaves(polly: Terminal) -> None:
    os_children = descendants(polly.pid)
    speaker = os_children[-1]
    polly.type("count\r")
    polly.read("0 1 2 ")
    os.kill(speaker, signal.SIGSTOP)  # one that cannot hear
    polly.type("\x03")
    time.sleep(0.5)  # two at once are one signal
    polly.type("\x03")
    assert polly.end() == 130
    assert eventually(lambda: not alive(*os_children))


def test_what_fails_is_told_and_the_chat_goes_on(polly: Terminal) -> None:
    polly.ask("hello")
    assert "ValueError: fell off the perch" in polly.ask("fall")
    assert "ValueError: fell off the perch" in polly.ask("/again"), "not the question before it"
    assert "(an empty answer)" in polly.ask("silence")
    asked = "user:hello|assistant:polly: hello|user:silence|assistant:"
    assert polly.ask("messages") == f"{asked}\n"
    polly.type("die\r")
    polly.read("its process was killed (SIGKILL): what a pity")
    assert polly.end() == 1


def test_a_full_context_is_told_and_a_new_conversation_helps(sit_down: Sit) -> None:
    terminal = sit_down("polly", "--context", "4")
    terminal.read("> ")
    assert terminal.ask("a") == "polly: a\n"
    assert "(cut off: the context of 4 tokens is full)" in terminal.ask("b c")
    assert "which fills the context of 4 tokens" in terminal.ask("d")
    terminal.ask("/new")
    assert terminal.ask("d") == "polly: d\n"


def test_an_answer_does_not_steer_the_terminal(polly: Terminal) -> None:
    answer = polly.ask("escape")
    assert "\x1b[2J" not in polly.raw
    assert "\N{REPLACEMENT CHARACTER}[2J\ttab\nline\N{REPLACEMENT CHARACTER}" in answer.replace("        ", "\t")


def test_lines_can_be_edited_come_again_and_are_pasted_as_one(polly: Terminal) -> None:
    polly.ask("hello")
    polly.type("\x1b[A there\x01well \r")  # up, to the beginning
    assert "polly: well hello there\n" in polly.read("\n> ")
    polly.type("\x1b[200~one\nand two\x1b[201~\r")
    assert "polly: one\nand two\n" in polly.read("\n> ")


def test_in_a_narrow_terminal_nothing_but_long_lines_is_broken(sit_down: Sit) -> None:
    terminal = sit_down("polly", columns=60)
    terminal.read("> ")
    lines = terminal.ask("/help").splitlines()
    assert all(len(line) <= 60 for line in (*lines, *terminal.seen.splitlines()))


def test_no_process_outlives_its_terminal(polly: Terminal) -> None:
    children = descendants(polly.pid)
    assert len(children) == 2
    polly.type("count\r")
    polly.read("0 1 2 ")
    os.kill(polly.pid, signal.SIGKILL)
    os.waitpid(polly.pid, 0)
    assert eventually(lambda: not alive(*children))


def test_answers_can_go_elsewhere_than_the_prompt(aviary: House, sit_down: Sit) -> None:
    script = aviary.folder / "answers.txt"
    shell = f"{sys.executable} -m tuneforge.cli chat polly > {script}"
    terminal = Terminal(["/bin/sh", "-c", shell], aviary.folder, aviary.environment, 80)
    terminal.read("> ")
    terminal.type("hello\r")
    terminal.read("hello\n")
    terminal.read("> ")
    terminal.type("\x04")
    assert terminal.end() == 0
    assert Path(script).read_text() == "polly: hello\n"
