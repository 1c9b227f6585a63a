"""`publish: hub` to the registry's own server, with the Hub's own client, over real HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
from safetensors.numpy import save_file

from tests.hubs import READ, WRITE, Served, point
from tuneforge import Adapter, Finding, Model, QuantizedModel, Release, Step, StepError
from tuneforge.artifacts import read_json
from tuneforge_models.hub import Hub as FromHub
from tuneforge_publish import Hub, extend_plan

LARGE = 6 << 20
"""Bytes: more than what a commit itself carries."""


def files(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".cache/")}


def receipt(release: Release) -> dict[str, Any]:
    return read_json(release.path / "receipt.json")


def downloaded(repo: str, to: Path, revision: str = "main") -> dict[str, bytes]:
    return files(Path(snapshot_download(repo, revision=revision, local_dir=to)))


def found(method: Hub, level: str = "error") -> list[Finding]:
    return [finding for finding in method.check({}) if finding.level == level]


@pytest.fixture
def large(made: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Model:
    """A model folder with two files of weights that are too large for a commit's own text, and that no other test has:
    what the server has of another repository is not sent to it either."""
    folder = Path(shutil.copytree(made.base.path, tmp_path / "large"))
    (folder / "model.safetensors").unlink()
    chance = np.random.default_rng(list(request.node.name.encode()))
    names = {f"w{part}": f"model-0000{part}-of-00002.safetensors" for part in (1, 2)}
    for name, file in names.items():
        save_file({name: chance.integers(0, 255, LARGE, dtype=np.uint8)}, folder / file)
    index = {"metadata": {}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return Model(folder, "5" * 64)


def test_a_model_goes_whole_and_a_second_time_nothing_goes(hub: Served, made: Any, tmp_path: Path) -> None:
    options = {"method": Hub, "repo": "whole", "license": "apache-2.0"}
    assert found(Hub(repo="whole", license="apache-2.0")) == []
    first = made.publish(tmp_path / "first", [made.base], [made.report], **options)
    told = receipt(first)
    assert told["repo"] == "whole" and HfApi().model_info("whole").sha == told["commit"]
    there = downloaded("whole", tmp_path / "down")
    assert there.keys() == told["files"].keys()
    assert {path: content for path, content in there.items() if path in files(made.base.path)} == files(made.base.path)
    assert len(hub.asked("/commit/main")) == 1 and hub.sent
    assert Hub(repo="whole").holds(first)
    hub.forget()
    again = made.publish(tmp_path / "again", [made.base], [made.report], **options)
    assert receipt(again) == told
    assert hub.sent == [] and hub.asked("preupload") == []


def test_its_weights_come_back_the_same(hub: Served, made: Any, tmp_path: Path) -> None:
    release = made.publish(tmp_path / "out", [made.base], method=Hub, repo="there-and-back")
    method = FromHub(repo="there-and-back").pin()
    assert method.revision == receipt(release)["commit"] and list(method.check({})) == []
    (tmp_path / "back").mkdir()
    method.run(step=Step("base", tmp_path / "back", tmp_path, 0, 1, lambda event: None))
    assert files(tmp_path / "back") == files(made.base.path)


def test_an_adapter_comes_back_on_its_base(hub: Served, made: Any, tmp_path: Path) -> None:
    made.publish(tmp_path / "out", [made.adapter], method=Hub, repo="lora-and-back", base_model="org/tiny")
    method = FromHub(repo="lora-and-back").pin()
    (error,) = method.check({})
    assert error.fix == "It is a PEFT adapter: load its base model, and give that step as model: here."
    facts = {"model": [made.base.facts(made.base.path)]}
    assert list(method.check(facts)) == [] and method.writes({"model": [Model]}) is Adapter
    assert method.foresee(facts).config["peft_type"] == "LORA"
    (tmp_path / "back").mkdir()
    step = Step("lora", tmp_path / "back", tmp_path, 0, 1, lambda event: None)
    FromHub(**method.model_dump(mode="json")).run(model=made.base, step=step)
    assert step.base == made.base.digest
    came, was = (read_json(folder / "adapter_config.json") for folder in (tmp_path / "back", made.adapter.path))
    assert came == was
    assert files(tmp_path / "back").keys() == files(made.adapter.path).keys()
    weights = "adapter_model.safetensors"
    assert files(tmp_path / "back")[weights] == files(made.adapter.path)[weights]


@pytest.mark.parametrize("form", ["adapter", "gguf", "gptq"])
def test_other_forms_go_and_say_what_they_are(
    hub: Served, made: Any, quantized: QuantizedModel, tmp_path: Path, form: str
) -> None:
    artifact = {"adapter": made.adapter, "gguf": made.gguf, "gptq": quantized}[form]
    steps = [*made.lineage["steps"]]
    steps[0] = made.entry(
        "base", made.base.digest, Model.kind, "load_model: hub", config={"repo": "org/tiny", "revision": "0" * 40}
    )
    steps.append(made.entry("q4", quantized.digest, QuantizedModel.kind, "quantize: gptq", {"model": ["base"]}))
    told = replace(made, lineage=made.lineage | {"steps": steps})
    release = told.publish(tmp_path / "out", [artifact], method=Hub, repo=f"form-{form}")
    there = downloaded(f"form-{form}", tmp_path / "down")
    assert there.keys() == receipt(release)["files"].keys()
    settings = {path: content for path, content in files(artifact.path).items() if path != "adapter_config.json"}
    assert settings.items() <= there.items()
    card = ModelCard.load(tmp_path / "down" / "README.md")
    assert card.data.base_model == "org/tiny"
    assert card.data.base_model_relation == {"adapter": "adapter", "gguf": "finetune", "gptq": "quantized"}[form]
    runs = {
        "adapter": f'PeftModel.from_pretrained(model, "form-{form}")',
        "gguf": f"llama-cli -hf form-{form} --hf-file ",
    }
    assert runs.get(form, f'AutoModelForCausalLM.from_pretrained("form-{form}", dtype="auto")') in card.text
    hub.forget()
    told.publish(tmp_path / "again", [artifact], method=Hub, repo=f"form-{form}")
    assert hub.sent == []


def test_only_what_differs_is_sent_and_what_is_gone_is_removed(
    hub: Served, large: Model, made: Any, tmp_path: Path
) -> None:
    made.publish(tmp_path / "first", [large], method=Hub, repo="growing")
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id="growing")
    changed = Path(shutil.copytree(large.path, tmp_path / "changed"))
    (changed / "generation_config.json").unlink()
    save_file({"w2": np.zeros(LARGE, dtype=np.uint8)}, changed / "model-00002-of-00002.safetensors")
    hub.forget()
    method = Hub(repo="growing")
    assert found(method) == []
    made.publish(tmp_path / "second", [Model(changed, "6" * 64)], method=Hub, repo="growing")
    assert len(hub.asked("/xorbs/")) == 1, "one of two large files"
    there = downloaded("growing", tmp_path / "down")
    assert there["notes.txt"] == b"mine", "which no release brought"
    assert "generation_config.json" not in there and files(changed).items() <= there.items()


def test_a_tag_stays_and_a_branch_grows(hub: Served, made: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": Hub, "repo": "tagged"}
    first = made.publish(tmp_path / "1", [made.base], tag="first", **options)
    assert HfApi().model_info("tagged", revision="first").sha == receipt(first)["commit"]
    with pytest.raises(StepError, match="has the tag first already, and it is another release"):
        made.publish(tmp_path / "2", [made.base], tag="first", title="Another", **options)
    hub.forget()
    second = made.publish(tmp_path / "3", [made.base], branch="next", title="Another", **options)
    assert receipt(second)["commit"] != receipt(first)["commit"]
    assert Hub(repo="tagged", branch="next").holds(second) and not Hub(repo="tagged").holds(second)
    assert "# Another" in Path(hf_hub_download("tagged", "README.md", revision="next")).read_text()
    assert "# orders" in Path(hf_hub_download("tagged", "README.md")).read_text()
    again = made.publish(tmp_path / "4", [made.base], tag="first", **options)
    assert receipt(again) == receipt(first)
    tagged_later = made.publish(tmp_path / "5", [made.base], branch="next", title="Another", tag="second", **options)
    assert receipt(tagged_later)["commit"] == receipt(second)["commit"]
    assert HfApi().model_info("tagged", revision="second").sha == receipt(second)["commit"]


def test_a_dry_run_tells_and_sends_nothing(hub: Served, made: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": Hub, "repo": "rehearsed", "dry_run": True}
    dry = made.publish(tmp_path / "1", [made.base], **options)
    assert set(receipt(dry)["changes"]["added"]) == set(receipt(dry)["files"])
    assert not HfApi().repo_exists("rehearsed") and not Hub(repo="rehearsed", dry_run=True).holds(dry)
    made.publish(tmp_path / "2", [made.base], method=Hub, repo="rehearsed")
    hub.forget()
    dry = made.publish(tmp_path / "3", [made.base], **options, title="Another")
    assert receipt(dry)["changes"] == {"added": [], "changed": ["README.md", "SHA256SUMS"], "removed": []}
    assert hub.sent == [] and hub.asked("create") == []


def test_who_may_not_write_is_told_before_anything_runs(
    hub: Served, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.publish(tmp_path / "1", [made.base], method=Hub, repo="guarded")
    for repo, problem in (("guarded", "the token may not write to guarded"), ("unmade", "the token may only read")):
        monkeypatch.setenv("HF_TOKEN", READ)
        (error,) = found(Hub(repo=repo))
        assert problem in error.problem and "hf auth login" in error.fix and error.field == "repo"
        assert found(Hub(repo="guarded", dry_run=True)) == []
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    (error,) = found(Hub(repo="guarded"))
    assert "does not take the token" in error.problem and "x" * 34 not in str(error)
    monkeypatch.delenv("HF_TOKEN")
    (warning,) = found(Hub(repo="unmade"), "warning") or found(Hub(repo="unmade"))
    assert "token" in warning.problem


def test_a_hub_that_cannot_be_asked(hub: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        point(monkeypatch, f"http://127.0.0.1:{free.getsockname()[1]}", tmp_path / "cache")
    (warning,) = Hub(repo="far").check({})
    assert warning.level == "warning" and "cannot be reached" in warning.problem
    release = Release(tmp_path, "r" * 64)
    (tmp_path / "receipt.json").write_text(json.dumps({"repo": "far", "commit": "0" * 40}))
    assert not Hub(repo="far").holds(release), "what cannot be looked at is not vouched for"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (error,) = Hub(repo="far").check({})
    assert error.level == "error" and "HF_HUB_OFFLINE is set" in error.problem


def test_a_hub_that_is_silent_is_waited_for_once(hub: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tuneforge.kit import hub_client

    monkeypatch.setattr(hub_client, "TIMEOUT", 0.1)
    about = b'{"id": "far", "sha": "%s", "private": true, "tags": [], "siblings": []}' % (b"0" * 40)
    asked: list[bytes] = []
    kept = []

    def answer(listener: socket.socket) -> None:
        """Knows the repository, and says nothing of who may write to it."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            asked.append(connection.recv(1 << 16))
            if b"auth-check" not in asked[-1]:
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(about)
                connection.sendall(head + about)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        point(monkeypatch, f"http://kim:swordfish1@127.0.0.1:{listener.getsockname()[1]}", tmp_path / "cache")
        (warning,) = Hub(repo="far").check({})
        assert warning.level == "warning" and "cannot be reached" in warning.problem
        (warning,) = Hub(repo="further").check({})
        assert warning.level == "warning" and not any(b"further" in request for request in asked)
        assert "swordfish1" not in hub_client.page("far")
        for connection in kept:
            connection.close()


def test_options_that_contradict_each_other() -> None:
    def problems(**options: Any) -> list[str]:
        return [finding.field for finding in super(Hub, Hub(repo="a/b")).check({})] + [
            finding.field for finding in super(Hub, Hub(repo="a/b", **options)).check({})
        ]

    assert problems(license="other") == ["license"]
    assert problems(license="mit", license_name="mine") == ["license_name"]
    assert problems(license="other", license_name="mine", license_link="LICENSE") == []


def test_a_branch_of_what_is_not_there_is_told_by_the_plan(hub: Served, made: Any, tmp_path: Path) -> None:
    (warning,) = found(Hub(repo="unmade-yet", branch="next"), "warning")
    assert warning.field == "branch" and warning.fix == f"Publish to main first, if {hub.url} is one."
    with pytest.raises(StepError, match="a branch has nothing to begin with"):
        made.publish(tmp_path / "1", [made.base], method=Hub, repo="unmade-yet", branch="next")
    made.publish(tmp_path / "2", [made.base], method=Hub, repo="unmade-yet")
    assert found(Hub(repo="unmade-yet", branch="next"), "warning") == []
    made.publish(tmp_path / "3", [made.base], method=Hub, repo="unmade-yet", branch="next")


def test_two_publications_to_one_branch_are_found() -> None:
    from types import SimpleNamespace

    methods = [Hub(repo="org/a"), Hub(repo="org/a", branch="next"), Hub(repo="Org/a")]
    steps: Any = [
        SimpleNamespace(name=name, method=method, place=f"recipe.yaml:{name}")
        for name, method in zip("xyz", methods, strict=True)
    ]
    (finding,) = extend_plan(steps)
    assert finding.problem == "z and x publish to one branch, main of Org/a"


class Way:
    """A way to a server that can be watched, held up and cut: `url` is where it begins."""

    def __init__(self, to: str) -> None:
        self._to = urlsplit(to)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.room = 1 << 60
        """Bytes that are still let through to the server."""
        self.cut = False
        """Whether to cut the connections then, instead of holding them up."""
        self.full = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            there = socket.create_connection((str(self._to.hostname), int(self._to.port or 0)))
            threading.Thread(target=self._pass, args=(here, there, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(there, here, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if counts:
                    self.room -= len(data)
                    if self.room < 0:
                        self.full.set()
                        if not self.cut:
                            threading.Event().wait()
                        return
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()


@pytest.fixture
def way(hub: Served) -> Iterator[Way]:
    opened = Way(hub.url)
    yield opened
    opened.close()


@pytest.mark.slow  # 18 MB through a way in Python
def test_a_cut_connection_is_told_and_nothing_is_sent_twice(
    hub: Served, large: Model, made: Any, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        point(patch, way.url, tmp_path / "cache")
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # which tries for two minutes
        patch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # it tries again and again
        way.room, way.cut = LARGE + LARGE // 2, True
        with pytest.raises(StepError, match="was not published") as told:
            made.publish(tmp_path / "1", [large], method=Hub, repo="cut-off")
    assert "Run again" in told.value.finding.fix
    assert HfApi().list_repo_files("cut-off") == [], "nobody sees half of it"
    hub.forget()
    made.publish(tmp_path / "2", [large], method=Hub, repo="cut-off")
    assert len(hub.asked("/xorbs/")) == 1, "the first of two files had arrived"
    assert files(large.path).items() <= downloaded("cut-off", tmp_path / "down").items()


@pytest.mark.slow  # three runs of the whole program
@pytest.mark.parametrize("transport", ["xet", pytest.param("lfs", marks=pytest.mark.whole)])
def test_killed_in_the_middle_it_goes_on_and_tells_no_token(
    hub: Served, large: Model, way: Way, tmp_path: Path, transport: str
) -> None:
    repo, sending = f"killed-{transport}", "/xorbs/" if transport == "xet" else "PUT "
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"steps:\n  base: {{load_model: path, with: {{path: {large.path}}}}}\n"
        f"  release: {{publish: hub, artifacts: [base], with: {{repo: {repo}}}}}\n"
    )
    home = tmp_path / "home"

    def start(url: str) -> subprocess.Popen[str]:
        given = {"HF_ENDPOINT": url, "HF_TOKEN": WRITE, "HF_HUB_CACHE": str(tmp_path / "cache")}
        given |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": str(int(transport == "lfs"))}
        return subprocess.Popen(
            [sys.executable, "-m", "tuneforge.cli", "--home", str(home), "run", str(recipe)],
            env=os.environ | given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    way.room = LARGE + LARGE // 2
    first = start(way.url)
    assert way.full.wait(300), first.kill() or first.communicate()
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert HfApi().list_repo_files(repo) == []
    assert len(hub.asked(sending, " 200 ")) == 1
    hub.forget()
    second = start(hub.url)
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert len(hub.asked(sending, " 200 ")) == 1, "the other of two"
    there = downloaded(repo, tmp_path / "down")
    assert files(large.path).items() <= there.items()
    hub.forget()
    third = start(hub.url)
    assert third.wait(timeout=120) == 0 and hub.sent == []
    assert [line for line in hub.asked(" POST ") if "validate" not in line] == []
    kept = [path for folder in (home, tmp_path / "down") for path in folder.rglob("*") if path.is_file()]
    assert kept and not [path for path in kept if WRITE.encode() in path.read_bytes()]
    assert WRITE not in said


@pytest.mark.slow  # the program itself, for its exit code
def test_the_plan_refuses_a_token_that_may_only_read(hub: Served, made: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "steps:\n  base: {load_model: builtin}\n"
        "  release: {publish: hub, artifacts: [base], with: {repo: not-for-readers}}\n"
    )
    planned = subprocess.run(
        [sys.executable, "-m", "tuneforge.cli", "--home", str(tmp_path / "home"), "plan", str(recipe)],
        env=os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": READ},
        capture_output=True,
        text=True,
    )
    assert planned.returncode == 2
    assert f"{recipe}:3" in planned.stderr and "the token may only read" in planned.stderr
