"""The command: what is served, by what, on which terms, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.chat.conftest import House, alive, eventually
from tests.chat.test_command import descendants
from tests.serve.conftest import Open
from tuneforge.cli import cli
from tuneforge.errors import RefusedError


@pytest.fixture
def here(market: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """The market's plugin, at hand in this process too."""
    monkeypatch.syspath_prepend(market.settings["PYTHONPATH"])
    return market


def refusal(house: House, *arguments: str) -> str:
    """What the command says when it refuses."""
    with pytest.raises(RefusedError) as refused:
        cli.main(["--home", str(house.folder / "home"), "serve", "--port", "0", *arguments], standalone_mode=False)
    return str(refused.value)


def test_an_artifact_is_served_on_the_terms_that_are_asked_for(market: House, opened: Open, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("\nfirst\nsecond\n")
    keys = ["--api-key-file", str(tmp_path / "keys.txt")]
    serving = opened(market, "polly@v1", "--name", "parrot", "--context", "9", "--threads", "2", *keys)
    told = json.loads(serving.get())
    assert (told["bird"], told["on"], told["by"]) == ("polly", None, "kiosk")
    assert (told["name"], told["context"], told["threads"], told["keys"]) == ("parrot", 9, 2, ["first", "second"])
    assert (told["host"], f"http://127.0.0.1:{told['port']}") == ("127.0.0.1", serving.url)
    first, *_ = serving.out.splitlines()
    digest = market.registry.resolve("polly")[:12]
    assert first == f"serving polly@v1 (bird {digest}) by kiosk at {serving.url}/v1 as parrot; Ctrl-C ends it"
    assert all("first" not in line and "parrot" in line and str(tmp_path) in line for line in serving.commands)
    shown = Path(f"/proc/{told['pids'][0]}/cmdline").read_text() + Path(f"/proc/{told['pids'][0]}/environ").read_text()
    assert "second" not in shown, "who looks at the processes sees no key"


def test_a_digest_is_cut_short_and_only_what_the_server_wants_to_tell_is_shown(market: House, opened: Open) -> None:
    digest = market.registry.resolve("polly")
    serving = opened(market, digest)
    assert json.loads(serving.get("/well"))["name"] == digest[:12]
    ended = serving.interrupt()
    assert "/well" in ended.err
    assert "opening" not in ended.err


def test_the_preferred_server_that_can_is_taken(market: House, opened: Open) -> None:
    serving = opened(market, "polly")
    assert json.loads(serving.get())["by"] == "kiosk"
    assert "not by palace: there is no palace here" in serving.err
    rich = House(market.folder, {**market.settings, "PALACE": "1"})
    told = json.loads(opened(rich, "polly@v1").get())
    assert (told["by"], told["name"]) == ("palace", "polly")


def test_what_is_served_on_another_artifact_gets_it(here: House, opened: Open) -> None:
    market, polly = here, here.registry.resolve("polly")
    form = market.put("form", "bird", {"bird.txt": "form"})
    step = {"name": "form", "kind": "bird", "digest": form, "inputs": {"model": [polly]}, "wires": {}}
    step |= {"stage": "quantize", "method": "cast", "status": "done", "seconds": 1.0, "metrics": {}}
    record = {"id": "r", "recipe": "birds", "status": "done", "started": "2026-01-01T00:00:00+00:00"}
    market.registry.write_run("r", record | {"steps": [step]})
    told = json.loads(opened(market, "ring", "--base", "form").get())
    assert (told["bird"], told["on"]) == ("ring", "form")
    assert f"a ring is served on a bird: name it with --base\n    There is {form[:12]}." in refusal(here, "ring")
    other = refusal(here, "ring", "--base", "owl")
    assert other.startswith(f"owl: it was not made of {polly[:12]}, which ring sits on")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["poly"], "poly: nothing in .* is named 'poly'\n    did you mean 'polly'"),
        (
            ["seeds"],
            "seeds: nothing can serve a chat-data\n    What can be served: adapter, bird, gguf, gguf-adapter, ",
        ),
        (
            ["swan"],
            "swan: not by palace: .*\n    Build one.\nswan: not by kiosk: the swan is too large\n    Take a par",
        ),
        (["swan", "--engine", "kiosk"], "^swan: not by kiosk: the swan is too large\n    Take a parrot.$"),
        (["polly", "--engine", "kisok"], "--engine: no installed plugin offers a server kisok\n    Did you mean kiosk"),
        (["polly", "--engine", "llama_cpp"], "polly: llama_cpp serves no bird\n    It serves: gguf, gguf-adapter."),
        (["polly", "--base", "owl"], "polly: a bird is served on no other artifact\n    Leave --base out."),
        (["ring", "--base", "seeds"], "seeds: --base is a chat-data; it must be a bird"),
        (
            ["polly", "--host", "0.0.0.0"],
            "--host 0.0.0.0 can be reached from other machines, and nobody .* key\n    Wri",
        ),
        (["polly", "--host", "nowhere.invalid"], "--host nowhere.invalid is no address of this machine"),
        (["polly", "--host", "192.0.2.1"], "nothing can listen at port 0 of 192.0.2.1"),
    ],
)
def test_what_cannot_be_served_so_is_refused(here: House, arguments: list[str], told: str) -> None:
    assert re.search(told, refusal(here, *arguments))


def test_a_port_in_use_is_refused_in_one_line_and_a_fix(market: House, opened: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = opened(market, "polly", "--port", str(port)).end()
    assert (ended.code, ended.out) == (2, "")
    fix = "Give another one with --port; --port 0 takes one that is free."
    assert ended.err == f"port {port} of 127.0.0.1 is in use\n    {fix}\n"


@pytest.mark.parametrize(
    ("text", "told"), [("\n \n", "there is no key in it"), ("ключ", "ASCII"), ("a b", "a key has no spaces")]
)
def test_a_file_without_a_good_key_is_refused(here: House, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "keys.txt").write_text(text)
    assert told in refusal(here, "polly", "--api-key-file", str(tmp_path / "keys.txt"))


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("dodo", "dodo: the dodo is extinct\n    Take a parrot.\n"),
        ("hawk", "hawk: its process was killed (SIGKILL): what a pity\n    --debug before `serve` shows all"),
    ],
)
def test_what_fails_is_told_and_ends_with_1(market: House, opened: Open, ref: str, told: str) -> None:
    ended = opened(market, ref).end()
    assert (ended.code, ended.out) == (1, "")
    assert told in ended.err


def test_a_server_that_ends_by_itself_is_told(market: House, opened: Open) -> None:
    serving = opened(market, "polly")
    serving.get("/close")
    ended = serving.end()
    assert ended.code == 1
    assert "polly: its process ended with exit code 3" in ended.err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_command(market: House, opened: Open, how: signal.Signals) -> None:
    serving = opened(market, "polly")
    pids = json.loads(serving.get())["pids"]
    children = descendants(serving.process.pid)
    assert set(pids) < set(children), "and the one that watches over them"
    os.kill(serving.process.pid, how)
    assert serving.end().code == (130 if how == signal.SIGINT else -how)
    assert eventually(lambda: not alive(*children))


def test_an_interrupt_ends_one_that_is_still_loading(market: House, opened: Open) -> None:
    serving = opened(market, "owl")
    assert eventually(lambda: len(descendants(serving.process.pid)) == 2, 60)
    children = descendants(serving.process.pid)
    ended = serving.interrupt()
    assert (ended.code, ended.out) == (130, "")
    assert "Traceback" not in ended.err
    assert not alive(*children), "it has ended when the command has"


def test_debug_shows_all_that_a_server_prints(market: House, opened: Open) -> None:
    serving = opened(market, "polly", debug=True)
    serving.get()
    assert "opening" in serving.interrupt().err
