"""One question from standard input."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chat.conftest import House, alive, eventually


def test_all_of_standard_input_is_one_question_and_only_the_answer_comes_out(aviary: House) -> None:
    ended = aviary.ask("one line\nand another\n", "polly")
    assert (ended.code, ended.out, ended.err) == (0, "polly: one line\nand another\n", "")


def test_several_answer_each_under_its_label(aviary: House) -> None:
    ended = aviary.ask("hello", "polly", "jack@v1", "polly")
    assert ended.code == 0
    assert ended.out == "## polly\npolly: hello\n\n## jack@v1\njack: hello\n\n## polly\npolly: hello\n"
    assert ended.err == ""


def test_a_digest_will_do(aviary: House) -> None:
    digest = aviary.registry.resolve("jack")
    assert aviary.ask("hello", digest[:8]).out == "jack: hello\n"


def test_the_system_message_and_the_seed_reach_the_model(aviary: House) -> None:
    assert aviary.ask("messages", "polly", "--system", "Be brief.").out == "system:Be brief.\n"
    assert aviary.ask("seed", "polly", "--seed", "7", "--temperature", "1").out == "7\n"
    unseeded = {aviary.ask("seed", "polly", "--temperature", "1").out for _ in range(2)}
    assert len(unseeded) == 2


def test_an_answer_that_is_cut_off_says_so_on_standard_error(aviary: House) -> None:
    ended = aviary.ask("a b c d", "polly", "--max-tokens", "3")
    assert (ended.code, ended.out) == (0, "polly: a b\n")
    assert ended.err == "(cut off after 3 tokens, as --max-tokens says)\n"


def test_options_of_drawing_that_have_no_effect_are_told(aviary: House) -> None:
    assert "count only with a --temperature above 0" in aviary.ask("hello", "polly", "--seed", "7").err


@pytest.mark.parametrize(
    ("refs", "told"),
    [
        (["poly"], "poly: nothing in .* is named 'poly'\n    did you mean 'polly'"),
        (["polly@v2"], "polly@v2: 'polly' has no 'v2'\n    it has: v1"),
        (["seeds"], "seeds: nothing can talk to a chat-data\n    What can be talked to: adapter, bird, gguf, model"),
        (["egg"], "egg: artifact .* is of the kind egg, which no plugin at hand knows"),
        (["swan"], "swan: the swan is mute\n    Take a parrot."),
        (["poly", "polly", "seeds"], "(?s)poly: nothing .*seeds: nothing can talk"),
    ],
)
def test_what_cannot_be_talked_to_is_refused_with_the_nearest_right_thing(
    aviary: House, refs: list[str], told: str
) -> None:
    ended = aviary.ask("hello", *refs)
    assert (ended.code, ended.out) == (2, "")
    assert re.search(told, ended.err), ended.err


def test_what_something_was_made_of_may_be_meant(aviary: House) -> None:
    bird, seeds = aviary.registry.resolve("jack"), aviary.registry.resolve("seeds")
    common = {"stage": "format", "method": "nest", "status": "done", "seconds": 1.0, "metrics": {}, "wires": {}}
    hatched = common | {"name": "hatched", "kind": "bird", "digest": bird, "inputs": {}}
    nest = common | {"name": "nest", "kind": "chat-data", "digest": seeds, "inputs": {"birds": [bird]}}
    record = {"id": "r", "recipe": "birds", "status": "done", "started": "2026-01-01T00:00:00+00:00"}
    aviary.registry.write_run("r", record | {"steps": [hatched, nest]})
    assert f"Talk to what it was made of: hatched {bird[:8]}." in aviary.ask("hello", "seeds").err
    assert f"The step hatched of run r made {bird[:12]}" in aviary.ask("hello", "hatched").err


@pytest.mark.parametrize(
    ("question", "told"),
    [("", "standard input is empty"), ("\n \n", "standard input is empty"), ("\udcff", "not UTF-8")],
)
def test_nothing_to_ask_is_refused(aviary: House, question: str, told: str) -> None:
    process = aviary.start("polly")
    assert process.stdin and process.stdout and process.stderr
    process.stdin.buffer.write(question.encode(errors="surrogateescape"))
    process.stdin.close()
    assert told in process.stderr.read()
    assert (process.wait(), process.stdout.read()) == (2, "")
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize(
    ("ref", "question", "told"),
    [
        ("dodo", "hello", "dodo: the dodo is extinct\n    Take a parrot.\n"),
        ("jack", "fall", "jack: ValueError: fell off the perch\n"),
        ("jack", "die", "jack: its process was killed (SIGKILL): what a pity\n"),
    ],
)
def test_what_fails_is_told_and_ends_with_1(aviary: House, ref: str, question: str, told: str) -> None:
    ended = aviary.ask(question, ref)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(told)


def test_one_that_fails_keeps_no_other_from_answering(aviary: House) -> None:
    ended = aviary.ask("fall", "jack", "polly")
    assert ended.code == 1
    assert "polly: ValueError" in ended.err
    assert ended.out == "## jack\n\n## polly\n"


def test_a_full_context_is_refused(aviary: House) -> None:
    ended = aviary.ask("hello", "polly", "--system", "Be brief.", "--context", "1")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("polly: the conversation has 1 tokens, which fills the context of 1 tokens\n")


def test_debug_shows_what_the_processes_print(aviary: House) -> None:
    assert "Traceback" not in aviary.ask("fall", "jack").err
    shown = subprocess.run(
        [sys.executable, "-m", "tuneforge.cli", "--debug", "chat", "jack"],
        input="fall",
        env=aviary.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "Traceback" in shown.stderr
    assert "jack: ValueError: fell off the perch" in shown.stderr


@pytest.mark.parametrize("ends", ["killed", "done"])
def test_no_process_outlives_the_command(aviary: House, ends: str) -> None:
    process = aviary.start("polly", "jack")
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write("pid" if ends == "done" else "count")
    process.stdin.close()
    process.stdout.readline()
    children = descendants(process.pid)
    if ends == "killed":
        assert process.stdout.read(10).startswith("0 1 ")
        assert len(children) == 3, "a server and the two that it has forked"
        process.kill()
    process.stdout.close()
    process.stderr.close()
    process.wait(timeout=60)
    assert eventually(lambda: not alive(*children))


def descendants(pid: int) -> list[int]:
    """All processes that this one has started, and those that they have."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found
