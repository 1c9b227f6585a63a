"""Tokens and secrets reach no record, log, lineage or page: they are planted everywhere, and looked for."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.core.bench import Bench, step_of
from tuneforge.launch.torchrun import ORDER
from tuneforge.redaction import REDACTED, Log, _put, redacted, redacted_text, secret_in

PLANTED = {
    "HF_TOKEN": "hf_" + "aBcDeFgHiJ" * 3,
    "WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567",
    "MY_SECRET": "correct horse battery",
}
ADDRESS = "https://user:s3cr3tpassword@example.org/data"
QUERY = "https://example.org/data?access_token=abc123def456ghi"
LEAKY = '''
import ctypes
import os
import sys

from tuneforge import Artifact, Field, Publish, Step, Target, Train, hookimpl
from tuneforge.errors import StepError
from tuneforge.launch.options import Strategy


class Abreast(Strategy):
    """Everyone tells it."""

    name = "abreast"


class Noise(Artifact):
    kind = "noise"


class Leak(Train):
    """Tells everyone what it should not."""

    name = "leak"
    output = Noise
    strategies = (Abreast,)

    source: str = Field("", description="Where from.")
    token: str = Field("", description="What opens it.", keyed=False)
    how: str = Field("print", description="In which way.")

    def run(self, step: Step) -> None:
        for name in ("HF_TOKEN", "WANDB_API_KEY", "MY_SECRET"):
            secret = os.environ[name]
            print(f"a library says {secret}")
            print(f"another says {secret}", end="", file=sys.stderr, flush=True)
            os.write(1, f"native code says {secret}\\n".encode())
            step.log(f"logged in with {secret}")
            step.warn(f"beware of {secret}", f"hide {secret}")
        print(f"opening {self.source} with {self.token}")
        step.metrics(server=self.source)
        if self.how == "raise":
            raise ValueError(f"no access to {self.source} with {os.environ['HF_TOKEN']}")
        if self.how == "refuse":
            raise StepError(f"no access to {self.source}", f"mend {os.environ['MY_SECRET']}")
        if self.how == "crash":
            ctypes.string_at(0)
        (step.out / "noise").write_text(os.environ["HF_TOKEN"] if self.how == "write" else "noise")


class Tell(Publish):
    """Writes the lineage down."""

    name = "tell"
    to: Target = Field(description="Where to.")

    def run(self, noise: Noise, step: Step) -> None:
        import json

        self.to.write_text(json.dumps(step.lineage))
        (step.out / "receipt.json").write_text(json.dumps(step.lineage))


@hookimpl
def register_train():
    return [Leak]


@hookimpl
def register_publish():
    return [Tell]
'''
RECIPE = f"""plugins: [leaky.py]
description: it once had hf_{"Zz9" * 10} in it
steps:
  leak: {{train: leak, with: {{source: "{ADDRESS}", token: "pass phrase 42 words"}}}}
  more: {{train: leak, with: {{source: "{QUERY}"}}}}
  told: {{publish: tell, noise: leak, with: {{to: told.json}}}}
"""
SECRETS = [*PLANTED.values(), "s3cr3tpassword", "abc123def456ghi", "hf_" + "Zz9" * 10, "pass phrase 42 words"]


def planted(bench: Bench, *arguments: str) -> Any:
    (bench.folder / "leaky.py").write_text(LEAKY)
    (bench.folder / "r.yaml").write_text(RECIPE)
    return bench.command("run", "r.yaml", *arguments, **PLANTED)


def leaks(*folders: Path) -> list[str]:
    """Where below the folders a planted secret is to be found, in which file or in the index."""
    found = []
    for folder in folders:
        for file in (path for path in folder.rglob("*") if path.is_file() or path.is_symlink()):
            content = file.read_bytes() if file.is_file() else b""
            if file.suffix == ".sqlite":
                content += "\n".join(sqlite3.connect(file).iterdump()).encode()
            found += [f"{secret} in {file}" for secret in SECRETS if secret.encode() in content]
    return found


def test_no_secret_is_written_down(bench: Bench) -> None:
    ended = planted(bench, "--json", "--set", "steps.more.with.token=setting987654321")
    assert ended.code == 0, ended.err
    bench.command("registry", "ls")
    run = bench.home / "runs" / ended.json["run"]
    log = (run / "leak.log").read_text()
    assert log.count(f"a library says {REDACTED}\n") == log.count(f"native code says {REDACTED}\n") == 3
    assert f"opening https://{REDACTED}@example.org/data" in log
    assert leaks(bench.home) == []
    assert "setting987654321" not in (bench.home / "runs" / f"{ended.json['run']}.json").read_text()
    told = (bench.folder / "told.json").read_text()
    assert not any(secret in told for secret in SECRETS) and f"https://{REDACTED}@example.org/data" in told
    assert not any(secret in ended.out + ended.err for secret in SECRETS)
    assert "example.org" in (bench.home / "runs" / f"{ended.json['run']}.json").read_text()


@pytest.mark.parametrize("how", ["raise", "refuse", "crash"])
def test_no_secret_is_in_what_a_failure_leaves(bench: Bench, how: str) -> None:
    ended = planted(bench, "--json", "--set", f"steps.leak.with.how={how}")
    assert ended.code == 1
    assert leaks(bench.home) == []
    failed = step_of(ended.json, "leak")
    assert not any(secret in ended.out + ended.err for secret in SECRETS)
    if how != "crash":
        assert f"no access to https://{REDACTED}@example.org/data" in failed["error"]
    else:
        log = (bench.home / "runs" / ended.json["run"] / "leak.log").read_text()
        assert "Fatal Python error: Segmentation fault" in log and log.count("another says") == 3


@pytest.mark.slow
def test_ranks_of_a_launched_step_leave_no_secret(bench: Bench) -> None:
    ended = planted(bench, "--json", "--launch", "processes=2", "--until", "leak", "--set", "steps.leak.with.how=raise")
    assert ended.code == 1
    run = bench.home / "runs" / ended.json["run"]
    assert (run / "leak.log").read_text().count(
        f"a library says {REDACTED}\n"
    ) >= 3  # the first that fails ends the others
    (order,) = (run / "launched").glob(f"*{ORDER}")
    assert json.loads(order.read_text())["config"]["token"] == REDACTED
    assert list(order.parent.glob("*.failed-*.json"))
    assert leaks(bench.home) == []


def test_a_result_that_holds_a_secret_is_refused(bench: Bench) -> None:
    ended = planted(bench, "--set", "steps.leak.with.how=write")
    assert ended.code == 1
    assert "noise of its result holds the value of $HF_TOKEN, which is a secret" in ended.err
    assert leaks(bench.home) == []


def test_what_cannot_be_made_again_says_why(bench: Bench) -> None:
    made = planted(bench, "--json").json
    ended = bench.command("registry", "reproduce", step_of(made, "more")["digest"], "--with-present-packages")
    assert ended.code == 2
    assert ended.err.startswith(f"the recipe of run {made['run']} had a secret in it, which was not kept")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("git clone https://x-access:abc@host/r.git", f"git clone https://{REDACTED}@host/r.git"),
        ("s3://key:se/cret@bucket", "s3://key:se/cret@bucket"),  # no address: a slash ends the host
        ("postgres://me:pa55@db/x and http://plain.org/a@b", f"postgres://{REDACTED}@db/x and http://plain.org/a@b"),
        ('{"api_key": "abcdef123456", "r": 4}', f'{{"api_key": "{REDACTED}", "r": 4}}'),
        ("  hub_token: abcdefgh12345", f"  hub_token: {REDACTED}"),
        ("?a=1&X-Amz-Signature=0123456789abcdef&b=2", f"?a=1&X-Amz-Signature={REDACTED}&b=2"),
        ("Authorization: Bearer abcdef.ghijkl-123", f"Authorization: Bearer {REDACTED}"),
        ("sk-proj-abcdefghij0123456789 and ghp_abcdefghij0123456789", f"{REDACTED} and {REDACTED}"),
        ("pad_token: <|endoftext|>, max_new_tokens: 64", "pad_token: <|endoftext|>, max_new_tokens: 64"),
        ("eos_token_id=151645123456789", "eos_token_id=151645123456789"),
        ("    token = tokenizer.decode(ids[0])", "    token = tokenizer.decode(ids[0])"),
        ("tokenizer: org/name-with-12345678", "tokenizer: org/name-with-12345678"),
        ("step sft@r=16: 0123456789abcdef0123456789abcdef", "step sft@r=16: 0123456789abcdef0123456789abcdef"),
        ("see https://example.org/@user/x?page=12345678901234", "see https://example.org/@user/x?page=12345678901234"),
        ("token: ${HF_TOKEN}", "token: ${HF_TOKEN}"),
        ("nats per token: 1.2345678901234567.", "nats per token: 1.2345678901234567."),
        ("seconds a token=1.23456789e-05, next", "seconds a token=1.23456789e-05, next"),
        ("password: 1234567890123", f"password: {REDACTED}"),
        ("token: 1.2345678901234-abc", f"token: {REDACTED}"),
        ("pip install git+ssh://git@github.com/org/x", "pip install git+ssh://git@github.com/org/x"),
    ],
)
def test_what_counts_as_a_secret(text: str, clean: str) -> None:
    assert redacted_text(text) == clean


def test_options_that_are_called_so_are_left_out_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT_KEY", "yes")
    monkeypatch.setenv("SOME_PASSWORD", "open sesame")
    assert secret_in(b"open sesame and yes") == "", "words that any file may hold"
    monkeypatch.setenv("OTHER_PASSWORD", "0pen-sesame-open-sesame")
    assert secret_in(b"{0pen-sesame-open-sesame}") == "OTHER_PASSWORD"
    given = {"token": "twelve words of it", "pad_token": "<|endoftext|>", "n": [1, None, "yes", "open sesame!"]}
    clean = {"token": REDACTED, "pad_token": "<|endoftext|>", "n": [1, None, "yes", f"{REDACTED}!"]}
    assert redacted(given) == clean
    assert redacted(redacted(given)) == clean


def test_a_secret_of_many_lines_is_found_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "0pen-sesame-open-sesame\n")
    monkeypatch.setenv("DEPLOY_KEY", "-----BEGIN\nMIIabcdefgh/+12\n  last line=\n\n")
    assert redacted_text("with 0pen-sesame-open-sesame!") == f"with {REDACTED}!"
    assert redacted_text("a MIIabcdefgh/+12 and last line=") == f"a {REDACTED} and {REDACTED}"
    assert secret_in(b"{0pen-sesame-open-sesame}") == "HF_TOKEN"
    assert redacted_text("one first and a second", ["one first\nand\n a second \n"]) == f"{REDACTED} and {REDACTED}"


def test_a_secret_that_is_a_word_harms_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DB_PASSWORD", "tuneforge")
    monkeypatch.setenv("PIN_KEY", "20240101")
    given = {"tuneforge": "0.1.0", "digest": "ab20240101cd", "run": "20240101-120000", "text": "by tuneforge."}
    assert redacted(given) == given | {"text": f"by {REDACTED}."}
    assert redacted_text("tuneforge_peft tuneforge.kit /tuneforge/x 20240101") == (
        f"tuneforge_peft tuneforge.kit /{REDACTED}/x {REDACTED}"
    )
    place = tmp_path / "Key0fSomebody.pem"
    monkeypatch.setenv("SSH_KEY", str(place))
    assert redacted_text(str(place)) == REDACTED
    place.touch()
    assert redacted_text(str(place)) == str(place), "where a secret lies is none"
    assert secret_in(str(place).encode()) == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to try")
def test_who_writes_does_not_see_that_the_disk_is_full() -> None:
    log = Log(Path("/dev/full"))
    for _ in range(100):
        assert os.write(log.descriptor, b"words\n" * 1000) == 6000
    log.close()
    log.wait()


def test_a_log_tells_what_it_had_no_room_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    first = _put(writing, b"x" * (1 << 22), 0)
    lost = _put(writing, b"more", first)
    assert lost == first + 4
    assert len(os.read(reading, 1 << 22)) == (1 << 22) - first > 0
    assert _put(writing, b"again\n", lost) == 0
    assert os.read(reading, 1 << 20) == f"[{lost} bytes could not be written here]\nagain\n".encode()
    os.close(reading)
    os.close(writing)


def test_a_log_has_all_that_was_said_by_who_was_killed(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    script = "echo first; printf 'half a line '; printf 'and hf_%s' " + "a1" * 15 + "; kill -9 $$"
    process = subprocess.Popen(["sh", "-c", script], stdout=log.descriptor)
    log.close()
    assert process.wait() == -signal.SIGKILL
    log.wait()
    assert (tmp_path / "log").read_text() == f"first\nhalf a line and {REDACTED}"


def test_a_log_is_not_held_up_by_a_line_without_end(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    os.write(log.descriptor, b"1%\r2%\rthree")
    until = time.monotonic() + 10
    while (tmp_path / "log").read_bytes() != b"1%\r2%\rthree" and time.monotonic() < until:
        time.sleep(0.01)
    assert (tmp_path / "log").read_bytes() == b"1%\r2%\rthree"
    os.write(log.descriptor, b"\xff\xfe" + b"x" * 200_000)
    log.close()
    log.wait()
    assert (tmp_path / "log").stat().st_size == 11 + 2 + 200_000
